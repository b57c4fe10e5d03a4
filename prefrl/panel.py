"""What a person sees while a run trains: one live panel, or plain lines where no terminal is."""

import math
import time
from typing import Self

from rich.markup import escape
from rich.panel import Panel as Box
from rich.progress_bar import ProgressBar
from rich.table import Table

from prefrl.metrics import in_figures
from prefrl.run import Run
from prefrl.terminal import TerminalView

EVERY = 10.0
"""Seconds between two plain lines."""


class Panel(TerminalView):
    """Shows the progress of a run.

    Args:
        run: The run.
        quiet: Show nothing.
    """

    def __init__(self, run: Run, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self._run = run
        self._next_line = 0.0

    def __enter__(self) -> Self:
        super().__enter__()
        self.say(f"training in {self._run.path}")
        return self

    def update(self, values: dict[str, float]) -> None:
        """Show the latest metrics."""
        facts = self._facts(values)
        if self.on_terminal:
            self.show(self._box(facts, values["time/step"]))
            return
        now = time.monotonic()
        if now >= self._next_line or values["time/step"] >= self._run.config.run.steps:
            self.say("  ".join(f"{name} {value}" for name, value in facts.items()))
            self._next_line = now + EVERY

    def _facts(self, values: dict[str, float]) -> dict[str, str]:
        steps, config = values["time/step"], self._run.config
        facts = {"step": f"{steps:,.0f}/{config.run.steps:,}"}
        if not config.run.true_reward:
            asked, answered = values.get("query/asked", 0), values.get("label/answered", 0)
            facts["labels"] = f"{asked:.0f} asked, {answered:.0f} answered"
            accuracy = [
                v
                for k, v in values.items()
                if k.startswith("reward/validation_accuracy") and not math.isnan(v)
            ]
            if accuracy:
                facts["validation accuracy"] = f"{sum(accuracy) / len(accuracy):.2f}"
        if "rollout/true_return" in values:
            facts["true return"] = in_figures(values["rollout/true_return"])
        speed = values["time/steps_per_second"]
        if config.labels.wait:  # the time to come is reckoned without the waiting
            speed = steps / max(1e-9, values["time/seconds"] - values["time/label"])
        facts["steps/s"] = f"{speed:,.0f}"
        left = round(max(0.0, config.run.steps - steps) / max(1.0, speed))
        facts["left"] = f"{left // 60} min {left % 60} s"
        return facts

    def _box(self, facts: dict[str, str], step: float) -> Box:
        table = Table.grid(padding=(0, 2))
        for name, value in facts.items():
            table.add_row(f"[dim]{name}[/dim]", value)
        table.add_row("", ProgressBar(total=self._run.config.run.steps, completed=step, width=40))
        return Box(
            table, title=escape(f"{self._run.config.env.id} · {self._run.path}"), expand=False
        )
