"""What a person sees while a suite runs: a live table, or plain lines where no terminal is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from prefrl.bench.results import Row
from prefrl.bench.suites import Cell
from prefrl.metrics import in_figures, read_last
from prefrl.terminal import TerminalView


class Board(TerminalView):
    """Shows how far a suite is, what it has brought, and how long it will take.

    Args:
        cells: All runs of the suite.
        rows: Those that are finished.
        jobs: Processes at a time.
        quiet: Show nothing.
    """

    def __init__(
        self, cells: Sequence[Cell], rows: Sequence[Row], jobs: int, *, quiet: bool
    ) -> None:
        super().__init__(quiet=quiet)
        self._cells = cells
        self._rows = {row.key: row for row in rows}
        self._jobs = jobs
        self._running: dict[tuple[str, str, int], tuple[Cell, Path]] = {}
        self._failed: dict[tuple[str, str, int], str] = {}

    @property
    def failures(self) -> dict[tuple[str, str, int], str]:
        """Why cells ended without a result, by task, condition and seed."""
        return self._failed

    def started(self, cell: Cell, folder: Path) -> None:
        """A cell is being trained in `folder`."""
        self._running[cell.key] = (cell, folder)
        self.refresh()

    def finished(self, row: Row) -> None:
        """A cell has its result."""
        self._rows[row.key] = row
        self._running.pop(row.key, None)
        self._line(row.key, f"{row.true_return_mean:,.1f} ± {row.true_return_std:,.1f}")

    def failed(self, cell: Cell, sentence: str) -> None:
        """A cell ended without a result."""
        self._failed[cell.key] = sentence
        self._running.pop(cell.key, None)
        self._line(cell.key, f"failed: {sentence}")

    def refresh(self) -> None:
        """Draw the table anew, where there is a terminal."""
        if self.on_terminal:
            self.show(self._table())

    def _line(self, key: tuple[str, str, int], text: str) -> None:
        task, condition, seed = key
        done = sum(cell.key in self._rows for cell in self._cells) + len(self._failed)
        self.say(
            f"{done}/{len(self._cells)}  {task}  {condition}  seed {seed}: {text}  "
            f"({duration(self.seconds_left())} left)"
        )
        self.refresh()

    def seconds_left(self) -> float:
        """Seconds until the suite is done, NaN while nothing is known of any task's speed."""
        paces: dict[str, list[float]] = {}  # seconds for each step, by task
        for row in self._rows.values():
            if row.steps:
                paces.setdefault(row.task, []).append(row.wall_seconds / row.steps)
        steps_done = {}
        for key, (cell, folder) in self._running.items():
            last = read_last(folder / "metrics.csv")
            steps_done[key] = last.get("time/step", 0.0)
            if cell.task not in paces and last:
                paces[cell.task] = [last["time/seconds"] / last["time/step"]]
        if not paces:
            return float("nan")
        elsewhere = float(np.mean([np.mean(pace) for pace in paces.values()]))
        left = [0.0]
        for cell in self._cells:
            if cell.key not in self._rows and cell.key not in self._failed:
                steps = cell.config.run.steps - steps_done.get(cell.key, 0.0)
                left.append(max(0.0, steps) * float(np.mean(paces.get(cell.task, [elsewhere]))))
        return max(sum(left) / self._jobs, max(left))

    def _table(self) -> Table:
        done = sum(cell.key in self._rows for cell in self._cells)
        tasks = list(dict.fromkeys(cell.task for cell in self._cells))
        conditions = list(dict.fromkeys(cell.condition for cell in self._cells))
        table = Table(
            title=f"{done} of {len(self._cells)} runs, {len(self._failed)} failed, "
            f"{duration(self.seconds_left())} left"
        )
        down, across = (tasks, conditions) if len(tasks) >= len(conditions) else (conditions, tasks)
        table.add_column("task" if down is tasks else "condition")
        for name in across:
            table.add_column(escape(name), justify="right")
        for first in down:
            pairs = [(first, name) if down is tasks else (name, first) for name in across]
            table.add_row(escape(first), *(self._entry(*pair) for pair in pairs))
        return table

    def _entry(self, task: str, condition: str) -> str:
        """Mean of the finished seeds, how many of how many, and how far those under way are."""
        keys = [c.key for c in self._cells if (c.task, c.condition) == (task, condition)]
        means = [self._rows[key].true_return_mean for key in keys if key in self._rows]
        mean = in_figures(float(np.mean(means))) if means else ""
        parts = [mean, f"[dim]{len(means)}/{len(keys)}[/dim]"]
        for key in keys:
            if key in self._running:
                cell, folder = self._running[key]
                step = read_last(folder / "metrics.csv").get("time/step", 0.0)
                parts.append(f"[green]{min(1.0, step / cell.config.run.steps):.0%}[/green]")
        if failed := sum(key in self._failed for key in keys):
            parts.append(f"[red]{failed} failed[/red]")
        return " ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """A length of time for people."""
    if seconds != seconds:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
