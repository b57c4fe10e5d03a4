"""Runs the cells of a suite, each in a process of its own with one thread.

A run folder is made by this process and trained by `prefrl resume`, which starts what has not
begun and goes on with what was stopped. So a suite may end at any moment, in any way.
"""

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from prefrl.bench.suites import Cell, difference
from prefrl.errors import Interrupted, UserError, one_line
from prefrl.interrupts import watch_interrupts
from prefrl.lock import is_held
from prefrl.run import Run

LOG = "log.txt"
"""In a run folder: what its process printed."""

STOPPED = "interrupted; what was under way has a checkpoint, and the same command goes on"


@dataclass(frozen=True)
class News:
    """What has happened to a cell: it began, has its result, or ended without one."""

    cell: Cell
    folder: Path
    run: Run | None = None
    """With its result, when it has one."""
    failure: str = ""
    """Why there is none, when it ended without."""


def run_cells(cells: Sequence[Cell], folder: Path, jobs: int) -> Iterator[News | None]:
    """Train each cell to its end in its own folder in `folder`, `jobs` at a time.

    A cell that fails does not stop the others.

    Args:
        cells: What to train; those that are finished are only reported.
        folder: Where the run folders are; each is named as `Cell.folder` says.
        jobs: Processes at a time.

    Yields:
        What has happened, and None about once a second when nothing has.

    Raises:
        UserError: A run folder is there already and is of another configuration.
        Interrupted: The user stopped it; what was under way has a checkpoint.
    """
    refuse_other_runs(cells, folder)
    happened: queue.Queue[News] = queue.Queue()
    stop = threading.Event()

    def work(cell: Cell) -> None:
        path = folder / cell.folder
        if stop.is_set():
            return
        happened.put(News(cell, path))
        try:
            run = train_cell(cell, path, stop)
        except Exception as error:  # whatever it is, the other cells go on
            happened.put(News(cell, path, failure=one_line(error)))
        else:
            if run:
                happened.put(News(cell, path, run))

    with watch_interrupts() as interrupts, ThreadPoolExecutor(jobs) as pool:
        try:
            waiting = [pool.submit(work, cell) for cell in cells]
            while not (all(future.done() for future in waiting) and happened.empty()):
                try:
                    yield happened.get(timeout=1.0)
                except queue.Empty:
                    yield None
                if interrupts:
                    stop.set()
        finally:
            stop.set()
    if interrupts:
        raise Interrupted(STOPPED)


def refuse_other_runs(cells: Sequence[Cell], folder: Path) -> None:
    """Refuse run folders in `folder` that are not what the cells would make.

    Raises:
        UserError: Names the folder and what differs.
    """
    for cell in cells:
        path = folder / cell.folder
        known = (path / "run.json").exists()
        if known and (differs := difference(Run(path).config, cell.config)):
            raise UserError(f"'{path}' was trained with {differs}: give another --out")


def train_cell(cell: Cell, path: Path, stop: threading.Event) -> Run | None:
    """Train one cell to its end, in a process of its own; None if `stop` came first.

    Raises:
        RuntimeError: It ended without a result; with the last line that it printed.
    """
    if not (path / "run.json").exists():  # nothing there, or half made when this was killed
        shutil.rmtree(path, ignore_errors=True)
        Run.create(path, cell.config)
    while True:
        run = Run(path)
        if is_held(run.training_lock):  # left over from a suite that was killed: it ends by itself
            if stop.wait(1.0):
                return None
        elif run.record["result"] is not None:
            return run
        else:
            code, said = _go_on(path, stop)
            if code and stop.is_set():
                return None
            if not code and Run(path).record["result"] is None:
                raise RuntimeError("it ended by itself, without a result")
            # One that was left over may have been about to take the lock all the while.
            if code and not is_held(run.training_lock):
                raise RuntimeError(why_it_ended(said, code))


def _go_on(path: Path, stop: threading.Event) -> tuple[int, str]:
    """Train in a process of its own until it ends or `stop`: its exit status and what it said."""
    command = [sys.executable, "-P", "-m", "prefrl.cli", "resume", str(path), "--quiet"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (path / LOG).open("ab+") as log:
        begin = log.seek(0, os.SEEK_END)
        # In a session of its own, so that Ctrl-C at the terminal reaches this process alone.
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            while process.poll() is None and not stop.wait(0.2):
                pass
        finally:  # it goes no further without this one
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()
        log.seek(begin)
        return process.returncode, log.read().decode(errors="replace")


def why_it_ended(said: str, code: int) -> str:
    """One sentence: the last that the process said, or the signal that ended it."""
    if code < 0:
        return f"signal {-code} ended it"
    lines = [line for line in said.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"prefrl: |[\w.]*(Error|Exception|Failed)\b", line)]
    return (told or lines or ["it said nothing"])[-1].removeprefix("prefrl: ")
