"""Runs the cells of a suite on a Ray cluster, each as one task.

All machines need prefrl, and have to see the results folder and the working directory under the
same paths. Then a task needs nothing else: whichever worker gets it makes the run folder, or goes
on with what it finds there. A task whose worker is lost is given to another by Ray itself.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from prefrl.bench.runner import STOPPED, News, refuse_other_runs, train_cell
from prefrl.bench.suites import Cell
from prefrl.errors import Interrupted, UserError, one_line, sentence
from prefrl.interrupts import watch_interrupts
from prefrl.lock import is_held
from prefrl.run import Run

RETRIES = 3
"""Workers that a run may lose before it counts as failed."""


class RayCluster:
    """A connection to a Ray cluster, for as long as the block lasts.

    Args:
        address: Of its head, `HOST:PORT` or `ray://HOST:PORT`; `auto` for the one on this machine.

    Raises:
        UserError: Ray is not installed, or there is no cluster at that address.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError:
            raise UserError("--ray needs Ray: `pip install 'prefrl[ray]'`") from None
        self._ray = ray
        try:
            _reach(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"no Ray cluster at '{address}': {sentence(error)}") from None
        self.cores = int(ray.cluster_resources().get("CPU", 1))
        """Of all its machines; each runs one cell at a time."""

    def __enter__(self) -> "RayCluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ray.shutdown()

    def run_cells(self, cells: Sequence[Cell], folder: Path) -> Iterator[News | None]:
        """Train each cell to its end in its own folder in `folder`; as `runner.run_cells` does.

        Args:
            cells: What to train; those that are finished are only reported.
            folder: Where the run folders are, on every machine.

        Yields:
            What has happened, and None about once a second when nothing has.

        Raises:
            UserError: A run folder is there already and is of another configuration.
            Interrupted: The user stopped it; what was under way has a checkpoint.
        """
        refuse_other_runs(cells, folder)
        folder = folder.resolve()
        task = self._ray.remote(num_cpus=1, max_retries=RETRIES)(_train)
        with watch_interrupts() as interrupts:
            here = Path.cwd()
            waiting = {task.remote(cell, folder / cell.folder, here): cell for cell in cells}
            unseen = {cell.key: cell for cell in cells}
            try:
                while waiting and not interrupts:
                    done, _ = self._ray.wait(list(waiting), timeout=1.0)
                    for cell in list(unseen.values()):
                        path = folder / cell.folder
                        if (path / "run.json").exists() and is_held(Run(path).training_lock):
                            del unseen[cell.key]
                            yield News(cell, path)
                    for task_done in done:
                        cell = waiting.pop(task_done)
                        unseen.pop(cell.key, None)
                        yield self._news(task_done, cell, folder / cell.folder)
                    if not done:
                        yield None
            finally:
                for task_left in waiting:
                    self._ray.cancel(task_left)
                if waiting:
                    self._ray.wait(list(waiting), num_returns=len(waiting))
        if interrupts:
            raise Interrupted(STOPPED)

    def _news(self, task: Any, cell: Cell, path: Path) -> News:
        """What a task that is done has brought."""
        try:
            self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            return News(cell, path, failure=one_line(error.cause))
        except self._ray.exceptions.RayError as error:
            return News(cell, path, failure=f"its workers were lost: {sentence(error)}")
        return News(cell, path, Run(path))


def _reach(address: str) -> None:
    """Try for 5 s whether anything listens at an address; Ray itself would try for minutes.

    Raises:
        OSError: Nothing does.
        ValueError: It has no port.
    """
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        raise ValueError("an address is HOST:PORT, ray://HOST:PORT or auto")
    socket.create_connection((host, int(port)), timeout=5.0).close()


def _train(cell: Cell, path: Path, working_directory: Path) -> None:
    """Train one cell to its end, on whichever machine this is."""
    os.chdir(working_directory)  # where the user's own modules are
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray blocks it; children inherit
    # A worker that a script started in its background ignores it, and so would not be cancelled.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    train_cell(cell, path, threading.Event())
