"""The demo: a hopper learns backward somersaults from 100 answers, in a few minutes."""

import logging
import shutil
from pathlib import Path

from prefrl.errors import UserError
from prefrl.filming import before_after
from prefrl.lock import is_held
from prefrl.reporting import report
from prefrl.run import Run
from prefrl.trainer import train

log = logging.getLogger(__name__)

ENV, LABELS = "prefrl/HopperBackflip-v0", 100


def demo(out: str | Path | None = None, *, quiet: bool = False) -> list[Path]:
    """Train, then leave `report.png` and `before_after.mp4` in the run folder.

    Args:
        out: The run folder; `runs/demo`, where an earlier demo is replaced, when None.
        quiet: Print no progress.

    Returns:
        Paths of report and video; without a renderer, of the report alone.

    Raises:
        UserError: `out` exists, or `runs/demo` holds something other than an earlier demo.
    """
    folder = Path(out) if out is not None else Path("runs/demo")
    if out is None and folder.exists():
        _clear(folder)
    run = train(ENV, labels=LABELS, out=folder, quiet=quiet)
    return show(run)


def _clear(folder: Path) -> None:
    """Delete an earlier demo; what else lies there is not ours to delete.

    Raises:
        UserError: It is none, or is in use, or cannot be deleted.
    """
    try:
        earlier = _is_idle_demo(Run(folder))
    except UserError:
        earlier = False
    if not earlier:
        raise UserError(f"'{folder}' is no earlier demo, or is in use: give another --out")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise UserError(f"cannot delete the earlier demo '{folder}': {error}") from None


def _is_idle_demo(run: Run) -> bool:
    labels = run.config.labels
    return (
        run.config.env.id == ENV
        and (labels.labeller, labels.oracle, labels.budget) == ("oracle", "", LABELS)
        and not any(is_held(lock) for lock in (run.training_lock, run.window_lock, run.review_lock))
    )


def show(run: Run) -> list[Path]:
    """Draw report and video of a finished run."""
    made = [report(run)]
    try:
        made.append(before_after(run, run.path / "before_after.mp4"))
    except UserError as error:
        log.warning("no video: %s", error)
    return made
