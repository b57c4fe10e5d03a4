"""Training: a run from its configuration to its result, and on from a checkpoint."""

import json
import logging
import shlex
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from threadpoolctl import threadpool_limits

from prefrl.agent.stack import Stack
from prefrl.checkpoint import list_checkpoints
from prefrl.checks import check_inputs, check_source, check_start, warn_of_unused
from prefrl.clock import Stopwatch
from prefrl.configfile import load_config, with_absolute_paths
from prefrl.environment import EndedEarly, find_spec
from prefrl.errors import DISK_ERRORS, CodeFailed, RunFailed, UserError
from prefrl.evaluation import roll_out, summarise
from prefrl.keeper import RunKeeper, watch_interrupts
from prefrl.labellers.display import check_display
from prefrl.labellers.oracle import Oracle, load_score, true_reward
from prefrl.labellers.person import Person
from prefrl.labellers.teachers import teacher
from prefrl.labelling import WindowProcess
from prefrl.labels.store import LabelStore
from prefrl.lock import hold, is_held
from prefrl.loop import Labeller, PreferenceLoop
from prefrl.metrics import MetricsLog
from prefrl.panel import Panel
from prefrl.queries.schedule import LabelSchedule
from prefrl.run import Run, default_folder

log = logging.getLogger(__name__)


def train(
    env_id: str,
    *,
    labels: int | None = None,
    steps: int | None = None,
    labeller: str | None = None,
    ask: str | None = None,
    wait_for_labels: bool = False,
    teacher: str | None = None,
    oracle: str | None = None,
    query: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    preset: str | Path | None = None,
    true_reward: bool = False,
    labels_from: str | Path | None = None,
    allow_termination: bool = False,
    quiet: bool = False,
) -> Run:
    """Train an agent from answers about pairs of clips.

    What is None is as in the environment's preset, or else as in `prefrl.config`.

    Args:
        env_id: Gymnasium id; `module:Id-v0` imports `module` first.
        labels: Labels to ask for.
        steps: Environment steps, over all copies of the environment.
        labeller: `oracle`, `human` to open the window, or `none` to learn from `labels_from`
            alone.
        ask: What a person is asked about each pair.
        wait_for_labels: Train only as far as the labels that a person has given allow.
        teacher: How the oracle errs.
        oracle: `FILE.py:FUNC` that scores a clip instead of the environment's reward.
        query: Rule by which pairs are chosen, or `FILE.py:FUNC` that scores them.
        seed: Decides the whole run.
        out: The run folder, which must not exist yet.
        preset: A preset's name or a YAML file's path.
        true_reward: Train on the environment's own reward instead: the ceiling.
        labels_from: A finished `labels.db` to start from.
        allow_termination: Let episodes end early, which tells the agent about the task.
        quiet: Print nothing.

    Raises:
        UserError: The input is wrong; nothing was written, unless it took the first batch of
            labels to see that the oracle tells no clips apart.
        RunFailed: The run stopped; the message says how to resume.

    Example:
        >>> run = train("HalfCheetah-v5", labels=200)  # doctest: +SKIP
        >>> run.record["result"]["true_return_mean"]  # doctest: +SKIP
    """
    given: dict[str, dict[str, Any]] = {
        "run": {"steps": steps, "seed": seed, "true_reward": true_reward or None},
        "labels": {
            "budget": labels,
            "labeller": labeller,
            "question": ask,
            "wait": wait_for_labels or None,
            "teacher": teacher,
            "oracle": oracle,
            "source": None if labels_from is None else str(labels_from),
        },
        "query": {"rule": query},
        "env": {"termination": "allow" if allow_termination else None},
    }
    overrides: Mapping[str, Mapping[str, Any]] = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in given.items()
    }
    for name, path in (("--oracle", oracle), ("--labels-from", labels_from)):
        if path == "":
            raise UserError(f"{name} is empty: name a file, or leave it out")
    if not isinstance(preset, str | Path | None):
        raise UserError(f"preset must be a preset's name or a YAML file's path, got {preset!r}")
    find_spec(env_id)  # an unknown environment is named before an unknown preset
    config = load_config(env_id, overrides, None if preset is None else str(preset))
    options = {
        "--labels": labels,
        "--labeller": labeller,
        "--ask": ask,
        "--wait-for-labels": wait_for_labels,
        "--teacher": teacher,
        "--query": query,
        "--labels-from": labels_from,
    }
    warn_of_unused(config, {name for name, value in options.items() if value})
    check_start(config)
    folder = Path(out) if out is not None else default_folder(env_id, config.run.seed)
    run = Run.create(folder, with_absolute_paths(config))
    _train(run, None, quiet=quiet)
    return run


def resume(run: str | Path | Run, *, quiet: bool = False) -> Run:
    """Go on with a run that was stopped, as if it had not been.

    Args:
        run: The run or its folder.
        quiet: Print nothing.

    Raises:
        UserError: There is nothing to go on with.
        RunFailed: The run stopped again.
    """
    run = run if isinstance(run, Run) else Run(run)
    if run.record["result"] is None:
        # A run that was stopped before its first checkpoint starts again; its labels stay.
        checkpoint = run.checkpoint() if list_checkpoints(run.checkpoints) else None
        if checkpoint and not run.config.run.true_reward and not run.label_file.exists():
            raise UserError(f"'{run.label_file}' is gone, so the run cannot go on")
        run.warn_of_edits()
        sample = check_inputs(run.config)
        if run.config.labels.source and not checkpoint and not _has_taken_over(run):
            check_source(run.config, sample.inputs.shape)
        _train(run, checkpoint, quiet=quiet)
    return run


def _has_taken_over(run: Run) -> bool:
    """Whether the labels to start from are in the run's own store: their source is not needed."""
    try:
        store = LabelStore(run.label_file, read_only=True)
    except (UserError, sqlite3.DatabaseError):  # none yet, or stopped while it was made
        return False
    try:
        return store.count_answered(0) > 0
    finally:
        store.close()


def _train(run: Run, checkpoint: Path | None, *, quiet: bool) -> None:
    run.forget_networks()  # those of a checkpoint that the run will be past
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks: more threads only wait for one another
    try:
        with threadpool_limits(1, "blas"), hold(run.training_lock) as alone:
            if not alone:
                raise UserError(f"'{run.path}' is being trained by another process")
            with watch_interrupts() as interrupts, Panel(run, quiet=quiet) as panel:
                _Training(run, checkpoint, panel, interrupts).go()
    except CodeFailed as error:
        raise RunFailed(f"{error}: mend it, then `prefrl resume {run.typed}` goes on") from error
    except (OSError, sqlite3.OperationalError) as error:
        if isinstance(error, OSError) and error.errno not in DISK_ERRORS:
            raise
        raise RunFailed(
            f"the run stopped because of its disk ({error}); labels and checkpoints before that "
            f"are whole: make room, then `prefrl resume {run.typed}`"
        ) from error
    except sqlite3.DatabaseError as error:
        raise RunFailed(
            f"the run stopped because its label store, or that which it starts from, is damaged "
            f"({error}): put a copy in its place, then `prefrl resume {run.typed}`"
        ) from error
    finally:
        torch.set_num_threads(threads)


class _Training:
    """One run from its start, or from a checkpoint, to its result."""

    def __init__(
        self, run: Run, checkpoint: Path | None, panel: Panel, interrupts: list[int]
    ) -> None:
        config = run.config
        saved = json.loads((checkpoint / "trainer.json").read_text()) if checkpoint else {}
        self._run = run
        self._stopwatch = Stopwatch(saved.get("seconds"))
        self._store: LabelStore | None = None
        if not config.run.true_reward:
            self._store = LabelStore(run.label_file)
            if not checkpoint:
                self._prepare_store(self._store)
        self._window = self._open_window(panel)  # it starts while the environments do
        self._stack = Stack(config, self._stopwatch)
        exact = self._stack.load(checkpoint) if checkpoint else True
        if not exact:
            panel.say(
                f"{config.env.id} keeps a state that cannot be saved, or is filmed: its episodes "
                f"start anew, so this run differs from one that was never stopped"
            )
            run.note_inexact_resume()
        self._labeller = self._make_labeller(panel, interrupts)
        self._loop = self._make_loop()
        if self._loop and checkpoint:
            step = self._stack.model.num_timesteps
            self._loop.load_state_dict(saved["loop"], step, exact=exact)
        members = 0 if config.run.true_reward else config.reward.members
        log = MetricsLog(run.path, members, self._stack.model.num_timesteps)
        self._stopwatch.start()
        self._keeper = RunKeeper(
            run, self._stack, self._loop, self._stopwatch, log, panel, interrupts
        )

    def go(self) -> None:
        config, model = self._run.config, self._stack.model
        model.set_logger(Logger(None, []))
        callbacks: list[BaseCallback] = [self._keeper]
        if self._loop:
            callbacks.append(self._loop)
        remaining = config.run.steps - model.num_timesteps
        try:
            if remaining > 0:
                model.learn(remaining, callback=callbacks, reset_num_timesteps=False)
            if self._stack.ensemble and not self._stack.ensemble.fitted:
                raise RunFailed(self._why_nothing())
            self._run.finish(self._result())
            self._say_what_was_not_asked()
        except EndedEarly as error:
            if not (self._store and self._store.count_answered()):
                raise
            raise EndedEarly(
                f"{error}; --labels-from {self._run.label_file} takes the answers along"
            ) from error
        finally:
            if self._store and model.num_timesteps >= config.run.steps:
                learned = self._stack.ensemble and self._stack.ensemble.fitted
                self._store.note(state="finished" if learned else "untaught")
            self._keeper.close()
            if self._window:
                self._window.release()
            if self._store:
                self._store.close()
            self._stack.close()

    def _say_what_was_not_asked(self) -> None:
        """Warn of labels for which there were no clips, as where episodes end early."""
        if self._loop and not isinstance(self._labeller, Person):
            asked, budget = int(self._loop.metrics["query/asked"]), self._schedule.budget
            if asked < budget:
                log.warning("%d of %d labels were asked: clips were too few", asked, budget)

    def _why_nothing(self) -> str:
        steps = self._stack.model.num_timesteps
        if isinstance(self._labeller, Person):
            given = self._store.count_answered() if self._store else 0
            again = f"--preset {shlex.quote(str(self._run.path / 'config.yaml'))} --wait-for-labels"
            if given:
                again += f" --labels-from {shlex.quote(str(self._run.label_file))}"
            return (
                f"nothing was learned: {given} labels were given in {steps} steps, too few to "
                f"begin; `prefrl train {self._run.config.env.id} {again}` starts anew"
                f"{' from them' if given else ' and waits for labels'}"
            )
        return (
            f"nothing was learned: no label arrived in {steps} steps; "
            f"train for more steps, with fewer labels or shorter clips"
        )

    def _prepare_store(self, store: LabelStore) -> None:
        config = self._run.config
        store.note(environment=config.env.id)
        if config.labels.source and not store.count_answered(0):
            source = LabelStore(config.labels.source, read_only=True)
            store.take_over(source)
            source.close()

    def _open_window(self, panel: Panel) -> WindowProcess | None:
        """The window of a run that a person answers, unless one is open or nothing is left to."""
        labels = self._run.config.labels
        if not self._run.config.watched or is_held(self._run.window_lock):
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

    def _make_labeller(self, panel: Panel, interrupts: list[int]) -> Labeller:
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
            stopped=lambda: bool(interrupts),
        )

    def _result(self) -> dict[str, Any]:
        """What `result` in run.json holds; the evaluation is not part of the timing."""
        config, model = self._run.config, self._stack.model
        seconds = self._stopwatch.seconds
        wall = sum(seconds.values())
        summary, correlation = summarise(roll_out(self._run, config.run.evaluation_episodes))
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
