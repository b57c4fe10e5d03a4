"""Training: one run, put together from its parts and led to its result."""

import json
import logging
import shlex
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from prefrl.agent.stack import Stack
from prefrl.changes import is_another_run
from prefrl.checks import nothing_to_learn
from prefrl.clock import Stopwatch
from prefrl.environment import EndedEarly
from prefrl.errors import Interrupted, RunFailed, UserError
from prefrl.evaluation import roll_out, summarise
from prefrl.interrupts import stop_at_once
from prefrl.keeper import RunKeeper
from prefrl.labellers.display import check_display
from prefrl.labellers.oracle import Oracle, load_score, true_reward
from prefrl.labellers.person import Person
from prefrl.labellers.teachers import teacher
from prefrl.labelling import WindowProcess
from prefrl.labels.store import LabelStore
from prefrl.lock import is_held
from prefrl.loop import Labeller, PreferenceLoop
from prefrl.metrics import MetricsLog
from prefrl.panel import Panel
from prefrl.queries.schedule import LabelSchedule
from prefrl.run import Run

log = logging.getLogger(__name__)


class Training:
    """One run from its start, or from a checkpoint, to its result.

    Args:
        run: The run.
        checkpoint: What it goes on from; None: it starts.
        panel: Where it says how far it is.
        interrupts: Signals so far that ask it to stop.
    """

    def __init__(
        self, run: Run, checkpoint: Path | None, panel: Panel, interrupts: list[int]
    ) -> None:
        config = run.config
        saved = json.loads((checkpoint / "trainer.json").read_text()) if checkpoint else {}
        self._run = run
        self._interrupts = interrupts
        self._stopwatch = Stopwatch(saved.get("seconds"))
        self._began = saved.get("step", 0)
        with ExitStack() as opened:
            self._store: LabelStore | None = None
            if not config.run.true_reward:
                self._store = opened.enter_context(LabelStore(run.label_file))
                if not checkpoint:
                    self._prepare_store(self._store)
            changed = self._is_another_run(saved)
            self._window = self._open_window(panel)  # it starts while the environments do
            if self._window:
                opened.callback(self._window.release)
            self._stack = opened.enter_context(closing(Stack(config, self._stopwatch)))
            exact = self._stack.load(checkpoint) if checkpoint else True
            if not exact:
                panel.say(
                    f"{config.env.id} keeps a state that cannot be saved, or is filmed: its "
                    f"episodes start anew, so this run differs from one that was never stopped"
                )
            exact = exact and not changed
            if not exact:
                run.note_inexact_resume()
            self._labeller = self._make_labeller(panel)
            self._loop = self._make_loop()
            step = self._stack.model.num_timesteps
            if self._loop and checkpoint:
                self._loop.load_state_dict(saved["loop"], step)
            if self._loop and not exact:
                self._loop.diverge()
            members = 0 if config.run.true_reward else config.reward.members
            metrics = opened.enter_context(closing(MetricsLog(run.path, members, step)))
            self._stopwatch.start()
            self._keeper = RunKeeper(
                run, self._stack, self._loop, self._stopwatch, metrics, panel, interrupts
            )
            self._opened = opened.pop_all()

    def _is_another_run(self, saved: Mapping[str, Any]) -> bool:
        """Whether something was changed since the checkpoint, or, with labels, since the start.

        Raises:
            UserError: It is something that cannot be changed.
        """
        if not saved and not (self._store and self._store.count_asked()):
            return False
        noted = saved if "config" in saved else self._run.record
        return is_another_run(self._run, noted, anew=not saved)

    def go(self) -> None:
        """Train to the end, and write down the result, or why there is none."""
        with self._opened:
            self._run.note_failure("")
            try:
                self._go_to_result()
            except Interrupted:
                raise
            except (UserError, RunFailed) as error:
                self._run.note_failure(str(error))
                raise
            self._say_what_was_not_asked()

    def _go_to_result(self) -> None:
        try:
            self._learn()
            if self._stack.ensemble and not self._stack.ensemble.fitted:
                self._note_end("untaught")
                raise RunFailed(self._why_nothing())
            self._run.finish(self._result())
            self._note_end("finished")
        except EndedEarly as error:
            if not (self._store and self._store.count_answered()):
                raise
            raise EndedEarly(
                f"{error}; --labels-from {shlex.quote(str(self._run.label_file))} takes the "
                f"answers along"
            ) from error

    def _learn(self) -> None:
        config, model = self._run.config, self._stack.model
        model.set_logger(Logger(None, []))
        callbacks: list[BaseCallback] = [self._keeper]
        if self._loop:
            callbacks.append(self._loop)
        remaining = config.run.steps - model.num_timesteps
        if remaining > 0:
            model.learn(remaining, callback=callbacks, reset_num_timesteps=False)

    def _note_end(self, state: str) -> None:
        if self._store:
            self._store.note(state=state)

    def _say_what_was_not_asked(self) -> None:
        """Warn of labels for which there were no clips, as where episodes end early."""
        if self._loop and not isinstance(self._labeller, Person):
            asked, budget = int(self._loop.metrics["query/asked"]), self._schedule.budget
            if asked < budget:
                log.warning("%d of %d labels were asked: clips were too few", asked, budget)

    def _why_nothing(self) -> str:
        steps, config = self._stack.model.num_timesteps, self._run.config
        labels = self._store.labels() if self._store else []
        given, useless = len(labels), [x for x in labels if nothing_to_learn(config, [x])]
        words = nothing_to_learn(config, useless)
        if useless and len(useless) == given:
            return f"nothing was learned: all {given} labels are {words}"
        if isinstance(self._labeller, Person):
            again = f"--preset {shlex.quote(str(self._run.path / 'config.yaml'))} --wait-for-labels"
            if given:
                again += f" --labels-from {shlex.quote(str(self._run.label_file))}"
            return (
                f"nothing was learned: {given} labels were given in {steps} steps"
                f"{f', {len(useless)} of them {words}' if useless else ''}, too few to begin; "
                f"`prefrl train {config.env.id} {again}` starts anew"
                f"{' from them' if given else ' and waits for labels'}"
            )
        if useless:
            return (
                f"nothing was learned: {len(useless)} of {given} labels are {words}, and the "
                f"others too few to begin, which takes {self._schedule.enough}"
            )
        return (
            f"nothing was learned: no label arrived in {steps} steps; "
            f"train for more steps, with fewer labels or shorter clips"
        )

    def _prepare_store(self, store: LabelStore) -> None:
        config = self._run.config
        store.note(environment=config.env.id)
        if config.labels.source and not store.count_answered(0):
            with LabelStore(config.labels.source, read_only=True) as source:
                store.take_over(source)

    def _open_window(self, panel: Panel) -> WindowProcess | None:
        """The window of a run that a person answers, unless one is open or nothing is left to."""
        labels = self._run.config.labels
        done = self._began >= self._run.config.run.steps
        if not self._run.config.watched or done or is_held(self._run.window_lock):
            return None
        store = self._store
        if store and store.count_asked() - store.count_pending() >= labels.budget:
            return None
        try:
            check_display()
        except UserError as error:
            if labels.wait:
                raise
            panel.say(f"{error}; the run goes on without a window")
            return None
        panel.say(f"a window opens to answer in; `prefrl label {self._run.typed}` opens another")
        return WindowProcess(self._run)

    def _make_loop(self) -> PreferenceLoop | None:
        if not (self._stack.recorder and self._stack.ensemble and self._store):
            return None
        config = self._run.config
        return PreferenceLoop(
            self._stack.recorder,
            self._stack.ensemble,
            self._store,
            self._labeller,
            self._schedule,
            rule=config.query.rule,
            candidates=config.query.candidates,
            batch=self._batch,
            queue=self._labeller.queue if isinstance(self._labeller, Person) else None,
            fitter=self._stack.fitter,
            first_fit_steps=config.reward.first_fit_steps,
            refit_steps=config.reward.refit_steps,
            learn_equal=config.reward.learn_equal,
            scale_memory=config.reward.scale_memory,
            continues=True,
            seed=self._stack.seeds["bootstrap"],
            rng=self._stack.generators["queries"],
            stopwatch=self._stopwatch,
        )

    @property
    def _schedule(self) -> LabelSchedule:
        config = self._run.config
        return LabelSchedule(
            budget=config.labels.budget if config.labels.labeller != "none" else 0,
            until=max(1, int(config.run.steps * config.labels.until)),
            initial=config.labels.initial,
            decay=config.labels.decay,
        )

    @property
    def _batch(self) -> int:
        return self._run.config.query.batch or max(1, self._schedule.budget // 40)

    def _make_labeller(self, panel: Panel) -> Labeller:
        config = self._run.config
        labels = config.labels
        if not self._store:
            return _nobody
        # A run that goes on from an earlier step dates answers and corrections by that.
        step = self._stack.model.num_timesteps
        self._store.note(step=step, state="training")
        if labels.labeller == "none":
            return _nobody
        if labels.labeller == "oracle":
            score = load_score(labels.oracle) if labels.oracle else true_reward
            return Oracle(score, teacher(labels.teacher), seed=self._stack.seeds["mistakes"])
        return Person(
            self._schedule,
            wait=labels.wait,
            slack=self._batch,
            horizon=config.clips.capacity * config.clips.length,
            step=step,
            say=panel.say,
            news=self._window.news if self._window else lambda: None,
            stopped=lambda: bool(self._interrupts),
        )

    def _result(self) -> dict[str, Any]:
        """What `result` in run.json holds; the evaluation is not part of the timing."""
        config, model = self._run.config, self._stack.model
        seconds = self._stopwatch.seconds
        wall = sum(seconds.values())
        with stop_at_once():  # the last checkpoint is saved: nothing is lost
            if self._interrupts:
                raise KeyboardInterrupt
            episodes = roll_out(self._run, config.run.evaluation_episodes)
        summary, correlation = summarise(episodes)
        return {
            "true_return_mean": summary["true_return"]["mean"],
            "true_return_std": summary["true_return"]["std"],
            "episodes": summary["episodes"],
            "learned_true_correlation": correlation,
            "labels_answered": self._store.count_answered() if self._store else 0,
            "steps": model.num_timesteps,
            "steps_per_second": model.num_timesteps / wall,
            "wall_seconds": wall,
            "seconds": seconds,
        }


def _nobody(store: LabelStore, step: int) -> None:
    """The labeller of a run that asks nothing."""
