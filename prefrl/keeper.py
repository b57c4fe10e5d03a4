"""The books of a run, kept between rollouts: metrics, times, checkpoints, interrupts."""

import time
from pathlib import Path

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from prefrl.agent.stack import Stack
from prefrl.changes import what_it_is
from prefrl.checkpoint import save_checkpoint
from prefrl.clock import Stopwatch
from prefrl.errors import Interrupted
from prefrl.files import finite, write_json
from prefrl.loop import PreferenceLoop
from prefrl.metrics import MetricsLog
from prefrl.panel import Panel
from prefrl.run import Run


class RunKeeper(BaseCallback):
    """Keeps the run's books: metrics, time per stage, checkpoints, the panel, interrupts.

    All of it happens between rollouts, where a checkpoint can be exact.
    """

    def __init__(
        self,
        run: Run,
        stack: Stack,
        loop: PreferenceLoop | None,
        stopwatch: Stopwatch,
        log: MetricsLog,
        panel: Panel,
        interrupts: list[int],
    ) -> None:
        super().__init__()
        self._run = run
        self._stack = stack
        self._loop = loop
        self._stopwatch = stopwatch
        self._log = log
        self._panel = panel
        self._interrupts = interrupts
        self._began = stack.model.num_timesteps
        self._began_seconds = stopwatch.wall
        self._saved_at = stack.model.num_timesteps
        self._mark = 0.0
        self._claimed = 0.0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps > self._began:
            self._settle_rollout()
        self._set_mark()

    def _on_rollout_end(self) -> None:
        self._claim("policy")

    def _on_training_end(self) -> None:
        self._settle_rollout()

    def _settle_rollout(self) -> None:
        """The update after a rollout is done: write it down, save, obey an interrupt."""
        self._claim("optimise")
        values = self._values()
        self._log.write(values)
        self._panel.update(values)
        done = self.num_timesteps >= self._run.config.run.steps
        due = self.num_timesteps - self._saved_at >= self._run.config.run.checkpoint_every
        if due or done or self._interrupts:
            self.save()
        if self._interrupts and not done:
            raise Interrupted(
                f"interrupted at step {self.num_timesteps}, checkpointed: "
                f"`prefrl resume {self._run.typed}` goes on"
            )

    def save(self) -> None:
        """Write a checkpoint of this moment."""

        def write(folder: Path) -> None:
            self._stack.save(folder)
            state = {
                "step": self.num_timesteps,
                "seconds": self._stopwatch.seconds,
                "loop": self._loop.state_dict() if self._loop else {},
            } | what_it_is(self._run.config)
            write_json(folder / "trainer.json", finite(state))

        save_checkpoint(self._run.checkpoints, self.num_timesteps, write)
        self._saved_at = self.num_timesteps

    def _values(self) -> dict[str, float]:
        wall = self._stopwatch.wall
        values = {
            "time/step": float(self.num_timesteps),
            "time/seconds": wall,
            "time/steps_per_second": (self.num_timesteps - self._began)
            / max(1e-9, wall - self._began_seconds),
        }
        values |= {f"time/{k}": v for k, v in self._stopwatch.seconds.items()}
        assert self.model.ep_info_buffer is not None
        if self.model.ep_info_buffer:
            returns = [episode["r"] for episode in self.model.ep_info_buffer]
            values["rollout/true_return"] = float(np.mean(returns))
        if self._stack.rewarded and self._stack.rewarded.episode_returns:
            values["rollout/learned_return"] = float(np.mean(self._stack.rewarded.episode_returns))
        learned = self.model.logger.name_to_value
        for key, name, sign in (
            ("rollout/entropy", "train/entropy_loss", -1),
            ("rollout/approx_kl", "train/approx_kl", 1),
            ("rollout/explained_variance", "train/explained_variance", 1),
        ):
            if name in learned:
                values[key] = sign * float(learned[name])
        return values | (self._loop.metrics if self._loop else {})

    def _set_mark(self) -> None:
        self._mark = time.perf_counter()
        self._claimed = self._claimed_so_far()

    def _claim(self, stage: str) -> None:
        """Count the time since the last mark towards `stage`, less what others claimed of it."""
        spent = time.perf_counter() - self._mark
        self._stopwatch.add(stage, spent - (self._claimed_so_far() - self._claimed))
        self._set_mark()

    def _claimed_so_far(self) -> float:
        return sum(v for k, v in self._stopwatch.seconds.items() if k != "other")
