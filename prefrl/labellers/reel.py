"""Reels: clips drawn by one process in the background, kept on disk within a quota.

Drawing happens where nothing else does: a GL context does not survive a fork, several of them at
once have hung graphics drivers, and a person's window must never wait for it. So one process is
started afresh for it, and takes turns with those of other windows through a lock. It reads a
clip's id per line and answers each with a line of JSON.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np

from prefrl.errors import UserError, sentence
from prefrl.lock import hold

QUOTA = 512 * 2**20
"""Bytes of frames kept for a run; the oldest go first."""

STALE = 120.0
"""Seconds after which nobody is still at writing frames."""


@dataclass(frozen=True)
class Reel:
    """A drawn clip on disk."""

    clip: int
    path: str
    """A `.npy` file of frames `(n, height, width, 3)` uint8."""
    fps: float
    """Frames per second at which a person is to see it."""
    pace: float
    """How fast that is, in the environment's own time: 0.25 is slow motion."""
    drawn_in: float
    """Seconds that drawing took; 0 where it was there already."""

    def load(self) -> np.ndarray:
        """The frames, `(n, height, width, 3)` uint8."""
        return np.load(self.path, allow_pickle=False)


@dataclass(frozen=True)
class NotDrawn:
    """Why a clip, or anything at all (`clip` is None), could not be drawn."""

    clip: int | None
    reason: str


class ReelMaker:
    """The drawing process of one run, seen from a window.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "prefrl.labellers.reel", str(run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Software rendering in one thread: the other cores have the agent to train.
            env={"LP_NUM_THREADS": "0"} | os.environ,
        )

    def ask(self, clip: int) -> None:
        """Ask for the reel of a clip.

        Raises:
            BrokenPipeError: The process has died.
        """
        assert self._process.stdin
        self._process.stdin.write(f"{clip}\n")
        self._process.stdin.flush()

    def wait(self) -> Reel | NotDrawn | None:
        """The next thing made, in the order of asking; None when the process has died."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            return None
        values = json.loads(line)
        return NotDrawn(**values) if "reason" in values else Reel(**values)

    def end(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close the pipes of an ended process that nobody reads from any more."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):  # a request that it did not take
                pipe.close()


class ReelShelf:
    """The drawn clips on disk, the oldest thrown away beyond `QUOTA`.

    What is put there, and thrown away, is by whoever holds `turn`: one process at a time.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Draw and keep clips in the block, while no other process does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with hold(self.folder / ".turn", patience=60.0):
            yield

    def path(self, name: str) -> Path:
        """Where the frames of that name lie, or will."""
        return self.folder / f"{name}.npy"

    def put(self, name: str, frames: np.ndarray) -> Path:
        """Keep frames; what is there under a name is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{name}.part"
        try:
            with part.open("wb") as file:
                np.save(file, frames)
            part.replace(self.path(name))
        except BaseException:
            part.unlink(missing_ok=True)  # on a full disk, its room is needed
            raise
        self._make_room(keep=self.path(name))
        return self.path(name)

    def _make_room(self, keep: Path) -> None:
        for part in self.folder.glob(".*.part"):  # of a process that was killed
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink(missing_ok=True)
        files = sorted(self.folder.glob("*.npy"), key=lambda path: path.stat().st_mtime)
        used = sum(path.stat().st_size for path in files)
        for path in files:
            if used <= QUOTA or path == keep:
                return
            used -= path.stat().st_size
            path.unlink()


def _work(run_path: Path, requests: IO[str], answers: IO[str]) -> None:
    """Draw what is asked for until there is no more."""
    from prefrl.clips.render import Renderer, clip_playback, draw_clip, steps_per_second
    from prefrl.environment import FRAME_SIZE, make_drawable
    from prefrl.labels.store import LabelStore
    from prefrl.run import Run

    def reply(thing: Reel | NotDrawn) -> None:
        answers.write(json.dumps(asdict(thing)) + "\n")
        answers.flush()

    shelf = ReelShelf(run_path / "frames")
    try:
        run = Run(run_path)
        env = make_drawable(run.config.env, *FRAME_SIZE)
        env.reset(seed=0)
        rate = steps_per_second(env)
        with shelf.turn():
            renderer = Renderer(env)
        store = LabelStore(run.label_file, read_only=True)
    except UserError as error:
        reply(NotDrawn(None, str(error)))
        return
    except Exception as error:  # the user's own environment may fail in any way
        reply(NotDrawn(None, sentence(error)))
        return
    for line in requests:
        number = int(line)
        try:
            start = time.perf_counter()
            clip = store.clip(number)
            stride, fps = clip_playback(len(clip), rate)
            # By what it shows: an older copy of the store gives the same id to another clip.
            path = shelf.path(clip.digest())
            drawn_in = 0.0
            if not path.exists():
                with shelf.turn():
                    if not path.exists():  # another window's process may have drawn it meanwhile
                        frames = draw_clip(renderer, clip, stride)
                        drawn_in = time.perf_counter() - start
                        path = _keep(shelf, path.stem, frames)
            reply(Reel(number, str(path), fps, fps * stride / rate, drawn_in))
        except UserError as error:
            reply(NotDrawn(number, str(error)))
        except Exception as error:  # one bad clip must not end the labelling
            reply(NotDrawn(number, sentence(error)))


def _keep(shelf: ReelShelf, name: str, frames: np.ndarray) -> Path:
    try:
        return shelf.put(name, frames)
    except OSError:  # full or read-only: pairs can be shown all the same
        spare = Path(tempfile.gettempdir()) / f"prefrl-{os.getuid()}"
        return ReelShelf(spare).put(f"{os.getpid()}-{name}", frames)


def _main(arguments: list[str]) -> None:
    # Graphics libraries print what they like: the real output is for answers alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _work(Path(arguments[0]), sys.stdin, answers)


if __name__ == "__main__":
    _main(sys.argv[1:])
