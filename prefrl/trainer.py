"""The trainer: begins a run, or goes on with one, and says in a sentence why it stopped."""

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from prefrl.checkpoint import list_checkpoints
from prefrl.checks import check_inputs, check_source, check_start, warn_of_unused
from prefrl.configfile import load_config, with_absolute_paths
from prefrl.errors import DISK_ERRORS, CodeFailed, Interrupted, RunFailed, UserError
from prefrl.interrupts import watch_interrupts
from prefrl.labels.schema import is_busy
from prefrl.labels.store import LabelStore
from prefrl.lock import hold
from prefrl.panel import Panel
from prefrl.registry import find_spec
from prefrl.run import Run, default_folder
from prefrl.training import Training


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
    for name, path, what in (
        ("--oracle", oracle, "file"),
        ("--labels-from", labels_from, "file"),
        ("--out", out, "folder"),
    ):
        if path == "":
            raise UserError(f"{name} is empty: name a {what}, or leave it out")
    if not isinstance(env_id, str):
        raise UserError(f"give an environment's id, such as 'Hopper-v5', not {env_id!r}")
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
    _train(run, quiet=quiet)
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
    run.warn_of_new_config()
    if run.record["result"] is None:
        _train(run, quiet=quiet, again=True)
    return run


def _find_way_on(run: Run) -> Path | None:
    """The checkpoint to go on from; None where the run was stopped before its first.

    Such a run starts again; its labels stay. What the run depends on is tried, as at its start.

    Raises:
        UserError: It cannot go on.
    """
    checkpoint = run.checkpoint() if list_checkpoints(run.checkpoints) else None
    if checkpoint and not run.config.run.true_reward and not run.label_file.exists():
        raise UserError(f"'{run.label_file}' is gone, so the run cannot go on")
    run.warn_of_edits()
    run.check_found("labels.oracle", "query.rule")
    sample = check_inputs(run.config)
    if run.config.labels.source and not checkpoint and not _has_taken_over(run):
        check_source(run.config, sample.inputs.shape)
    return checkpoint


def _has_taken_over(run: Run) -> bool:
    """Whether the labels to start from are in the run's own store: their source is not needed."""
    try:
        with LabelStore(run.label_file, read_only=True) as store:
            return store.count_answered(0) > 0
    except (UserError, sqlite3.DatabaseError):  # none yet, or stopped while it was made
        return False


def _train(run: Run, *, quiet: bool, again: bool = False) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks: more threads only wait for one another
    try:
        with threadpool_limits(1, "blas"), hold(run.training_lock) as alone:
            if not alone:
                raise UserError(f"'{run.path}' is being trained by another process")
            run.forget_networks()  # those of a checkpoint that the run will be past
            checkpoint = None
            if again:  # from where it is by now: another process may just have let go of it
                run.record = Run(run.path).record
                if run.record["result"] is not None:
                    return
                checkpoint = _find_way_on(run)
            with watch_interrupts() as interrupts, Panel(run, quiet=quiet) as panel:
                Training(run, checkpoint, panel, interrupts).go()
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: `prefrl resume {run.typed}` goes on") from None
    except CodeFailed as error:
        words = f"{error}: mend it, then `prefrl resume {run.typed}` goes on"
        raise _failed(run, words) from error
    except (OSError, sqlite3.OperationalError) as error:
        if isinstance(error, OSError) and error.errno not in DISK_ERRORS:
            raise
        if not run.path.is_dir():
            raise RunFailed(
                f"the run stopped because its folder '{run.path}' was moved or deleted: where it "
                f"was moved, `prefrl resume` goes on with it there"
            ) from error
        if is_busy(error):
            words = (
                f"the run stopped because another program keeps '{run.label_file}' locked: close "
                f"that, then `prefrl resume {run.typed}`"
            )
        else:
            words = (
                f"the run stopped because of its disk ({error}); labels and checkpoints before "
                f"that are whole: mend that, then `prefrl resume {run.typed}`"
            )
        raise _failed(run, words) from error
    except sqlite3.DatabaseError as error:
        words = (
            f"the run stopped because its label store, or that which it starts from, is damaged "
            f"({error}): put a copy in its place, then `prefrl resume {run.typed}`"
        )
        raise _failed(run, words) from error
    finally:
        torch.set_num_threads(threads)


def _failed(run: Run, words: str) -> RunFailed:
    """What ends a run that was under way; noted in run.json, if its disk allows."""
    with suppress(OSError):
        run.note_failure(words)
    return RunFailed(words)
