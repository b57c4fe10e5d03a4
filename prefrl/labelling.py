"""Labelling by people: the window on a run, its opening by a trainer, answers as a table."""

import csv
import getpass
import io
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prefrl.errors import RunFailed, UserError
from prefrl.files import replace_text
from prefrl.labels.answers import turned
from prefrl.labels.desk import end_claims
from prefrl.lock import hold, is_held
from prefrl.run import Run

if TYPE_CHECKING:
    from prefrl.labellers.player import Player
    from prefrl.labellers.session import Session


def label(
    run: str | Path | Run,
    *,
    review: bool = False,
    labeller: str | None = None,
    probes: float | None = None,
    theme: str = "dark",
) -> str:
    """Open a window on a run and serve the person until they close it; give what to tell them.

    Any number of windows may be open on a run, whether it is being trained or not.

    Args:
        run: The run or its folder.
        review: Look through all answered pairs, and correct answers, instead.
        labeller: Who sits at the window; the login name when None.
        probes: Share of pairs that repeat an earlier one, sides swapped; as configured when
            None.
        theme: `dark` or `light`.

    Raises:
        UserError: There is no such run, display or environment here.
        RunFailed: Nothing more can be drawn.
    """
    run = run if isinstance(run, Run) else Run(run)
    _check_store(run)
    if run.config.labels.labeller != "human" and not review:
        raise UserError(
            f"'{run.path}' is not answered by people but by labeller "
            f"'{run.config.labels.labeller}': --review looks through its answers"
        )
    share = run.config.labels.probes if probes is None else probes
    if not 0 <= share <= 0.5:
        raise UserError(f"the share of probes must be from 0 to 0.5, got {share:g}")
    name = labeller or _login_name()
    if not name.isprintable():
        raise UserError(f"the labeller's name must be printable text, got {name!r}")
    _check_writable(run)

    from prefrl.labellers.display import close_display, open_display

    open_display()
    from prefrl.labellers.player import Player
    from prefrl.labellers.session import Labelling, Review
    from prefrl.labellers.window import Window

    player = Player(run, labeller=name, probes=share, take=not review)
    with hold(run.review_lock, shared=True) if review else at_window(run):
        player.start()
        session = (Review if review else Labelling)(run, player, name)
        window = Window(
            session,
            player,
            title=f"prefrl · {run.config.env.id}" + (" · review" if review else ""),
            question=run.config.labels.question,
            run=run.typed,
            theme=theme,
        )
        try:
            window.loop()
        finally:
            failure = player.failure
            player.close()
            session.close()
            close_display()
    if failure:
        raise UserError(failure) if not player.seconds_drawn else RunFailed(failure)
    return _farewell(run, session, player, window.speed.next_pair)


@contextmanager
def at_window(run: Run) -> Iterator[None]:
    """Have a window open; who finds no other ends the claims that killed ones left behind."""
    with hold(run.window_lock) as alone:
        if alone:
            with suppress(sqlite3.OperationalError), run.labels as store:  # they end in any case
                end_claims(store)
    # Longer than another one that opens now may wait for the store while it ends claims.
    with hold(run.window_lock, shared=True, patience=60.0):
        yield


def _farewell(run: Run, session: "Session", player: "Player", latencies: list[float]) -> str:
    lines = []
    if session.seconds:
        lines.append(
            f"{len(session.seconds)} answers, {np.median(session.seconds):.1f} s each (median)"
        )
    if latencies:
        p50, p99 = np.percentile(latencies, [50, 99]) * 1000
        lines.append(f"from a key to the next pair: {p50:.0f} ms (median), {p99:.0f} ms (p99)")
    if player.seconds_drawn:
        lines.append(f"drawing a pair: {2000 * np.median(player.seconds_drawn):.0f} ms (median)")
    lines.append(_next_step(run, player.progress.state, reviews=session.reviews))
    return "\n".join(lines)


def _next_step(run: Run, state: str, *, reviews: bool) -> str:
    """How to come back, and what the training does in the meantime."""
    again = f"`prefrl label {run.typed}` opens the window again"
    if reviews:
        return f"`prefrl label {run.typed} --review` leads through the answers again"
    if state == "finished":
        return f"training has finished; `prefrl label {run.typed} --review` shows the answers"
    if state == "untaught":
        return (
            f"training has ended, for which too few labels came while it ran: `prefrl resume "
            f"{run.typed}` says how to begin anew from them"
        )
    if state == "paused":
        return f"{again}; `prefrl resume {run.typed}` goes on with the training, which is paused"
    if run.config.labels.wait:
        return f"{again}; training goes on as far as the labels allow, then it waits"
    return f"{again}; training goes on without it"


def _check_store(run: Run) -> None:
    if run.config.run.true_reward:
        raise UserError(f"'{run.path}' learns from the true reward: it has no labels to give")
    run.open_labels(read_only=True).close()


def _check_writable(run: Run) -> None:
    """Whether answers could be saved, as far as that can be told beforehand."""
    try:
        for lock in (run.window_lock, run.review_lock):
            lock.touch()
        run.labels.close()
    except (OSError, sqlite3.OperationalError) as error:
        raise UserError(
            f"'{run.path}' cannot be written to ({error}), so no answer could be saved: "
            f"--export reads the answers all the same"
        ) from None


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an account, as in a container
        return f"user {os.getuid()}"


COLUMNS = (
    "query",
    "answer",
    "left_clip_on",
    "labeller",
    "seconds",
    "step_asked",
    "step_answered",
    "repeats",
)


def export(run: str | Path | Run, out: str | Path) -> Path:
    """Write one row per standing answer as CSV; give its path.

    `answer` is in the query's own order of clips, `left_clip_on` the side of the screen on
    which its left clip was shown, `repeats` the query that a consistency probe repeats.

    Args:
        run: The run or its folder.
        out: The file.

    Raises:
        UserError: There is no such run, or the file cannot be written.
    """
    run = run if isinstance(run, Run) else Run(run)
    _check_store(run)
    with run.open_labels(read_only=True) as store:
        labels = [*store.labels(), *store.labels(probes=True)]
    path = Path(out)
    if path.suffix != ".csv":
        raise UserError(f"cannot write '{path}': a table's name must end in .csv")
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    for given in sorted(labels, key=lambda given: given.query.id):
        query = given.query
        writer.writerow(
            (
                query.id,
                given.answer,
                turned("left", given.swapped),
                given.labeller,
                f"{given.seconds:.3f}",
                query.step,
                given.step,
                "" if query.repeats is None else query.repeats,
            )
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, table.getvalue())
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror}") from None
    return path


class WindowProcess:
    """A window that a trainer opened, in a process of its own that outlives the trainer.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._log = run.path / "window.log"
        with self._log.open("w") as log:
            self._process: subprocess.Popen | None = subprocess.Popen(
                [sys.executable, "-P", "-m", "prefrl.cli", "label", str(run.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is meant for the trainer
            )

    def news(self) -> str | None:
        """What to tell the person once the window is closed; None before and after.

        Raises:
            RunFailed: The run waits for answers, and no window is open or could be opened.
        """
        if self._process is None or self._process.poll() is None:
            return None
        code, self._process = self._process.returncode, None
        words = self._log.read_text().strip()
        if code:
            reason = words.splitlines()[-1].removeprefix("prefrl: ") if words else "it was killed"
            closed = f"the window is closed ({reason})"
            awaited = self._run.config.labels.wait and not is_held(self._run.window_lock)
            if code == UserError.exit_code and awaited:
                raise RunFailed(
                    f"{closed}, and training waits for answers: mend that, then `prefrl resume "
                    f"{self._run.typed}` goes on"
                )
            return f"{closed}: `prefrl label {self._run.typed}` opens one"
        return words

    def release(self) -> None:
        """Leave the window to itself."""
        if self._process:
            self._process.returncode = 0  # nobody waits for it any more
