"""Locks that end with their holder, however it dies: who trains a run, who has a window on it."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hold(path: Path, *, shared: bool = False, patience: float = 0.2) -> Iterator[bool]:
    """Hold the lock of that file in the block; gives whether it could be had.

    Args:
        path: The lock's file; made if there is none, and left behind.
        shared: Any number of holders may share it.
        patience: Seconds to try for; some are needed, as `is_held` takes a lock for a moment.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    end = time.monotonic() + patience
    with path.open("a") as file:
        while not (held := _try(file.fileno(), kind)) and time.monotonic() < end:
            time.sleep(0.02)
        yield held


def is_held(path: Path) -> bool:
    """Whether any process holds the lock of that file."""
    try:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a read-only disk
        return False
    return False


def _try(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
