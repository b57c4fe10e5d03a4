"""A desktop without a screen, and a scripted person who labels at it.

The person looks at the store for what is on the screen, judges it by the true return, and
presses real keys at the real window, through xdotool. Needs Xvfb, xdotool and ImageMagick.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np

from prefrl.labels.store import LabelStore

PROGRAMS = ("Xvfb", "xdotool", "import")

KEYS = {"left": "Left", "right": "Right", "equal": "Down", "skip": "Up"}

READ = 0.25
"""Seconds that a person needs at least before they answer; the window ignores the first 0.15."""


def missing() -> list[str]:
    """Programs that a desktop needs and that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class Desktop:
    """An X server of its own.

    Args:
        width, height: Of its screen, pixels.
    """

    def __init__(self, width: int = 1280, height: int = 800) -> None:
        ours, theirs = os.pipe()
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(theirs), "-screen", "0", f"{width}x{height}x24"],
            pass_fds=[theirs],
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        with os.fdopen(ours) as pipe:
            number = pipe.readline().strip()
        self.environment = os.environ | {"DISPLAY": f":{number}"}
        self.environment.pop("SDL_VIDEODRIVER", None)

    def __enter__(self) -> "Desktop":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.terminate()
        self._server.wait()

    def key(self, *names: str) -> None:
        """Press keys one after another, by their X names."""
        self._do("xdotool", "key", *names)

    def click(self, x: int, y: int) -> None:
        """Click at a place on the screen."""
        self._do("xdotool", "mousemove", str(x), str(y), "click", "1")

    def resize(self, width: int, height: int) -> None:
        """Give the window on the screen another size, in the corner."""
        window = self._do("xdotool", "getwindowfocus").strip()
        self._do("xdotool", "windowmove", window, "0", "0")
        self._do("xdotool", "windowsize", window, str(width), str(height))

    def screenshot(self, path: Path) -> Path:
        """Save the screen, in the format that the path's ending names."""
        self._do("import", "-window", "root", str(path))
        return path

    def _do(self, *command: str) -> str:
        return subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True
        ).stdout


class ScriptedPerson:
    """Labels at a window by the true return, with mistakes.

    Args:
        desktop: Where the window is.
        labels: The run's `labels.db`.
        mistakes: Probability that a decided answer is the wrong one.
        seed: Decides the mistakes.
        session: Of the window, where there are several.
    """

    def __init__(
        self,
        desktop: Desktop,
        labels: Path,
        *,
        mistakes: float = 0.05,
        seed: int = 0,
        session: str | None = None,
    ) -> None:
        self._desktop = desktop
        self._labels = labels
        self._mistakes = mistakes
        self._rng = np.random.default_rng(seed)
        self._session = session
        self._store: LabelStore | None = None
        self._answered = 0.0

    def on_screen(self) -> tuple[int, bool, float] | None:
        """Query on the screen, whether its sides are swapped, and since when."""
        if self._store is None:
            if not self._labels.exists():
                return None
            self._store = LabelStore(self._labels)
        row = self._store.db.execute(
            "SELECT query, swapped, shown FROM claims WHERE shown IS NOT NULL AND until > ?1 "
            "AND (?2 IS NULL OR session = ?2) ORDER BY shown DESC",
            (time.time(), self._session),
        ).fetchone()
        return row and (row[0], bool(row[1]), row[2])

    def wait_for_pair(self, after: float = 0.0, seconds: float = 60.0) -> tuple[int, bool, float]:
        """What comes on the screen after that time, seconds since 1970.

        Raises:
            TimeoutError: Nothing does for so many seconds.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shown = self.on_screen()
            if shown and shown[2] > after:
                return shown
            time.sleep(0.02)
        raise TimeoutError(f"no new pair on the screen for {seconds:g} s")

    def judge(self, query: int, swapped: bool) -> str:
        """The side of the screen with the higher true return, or `equal`."""
        assert self._store
        clips = self._store.db.execute(
            "SELECT left_clip, right_clip FROM queries WHERE id = ?", (query,)
        ).fetchone()
        left, right = (self._store.clip(clip).true_rewards.sum() for clip in clips)
        if left == right:
            return "equal"
        wrong = self._rng.random() < self._mistakes
        return "left" if (left > right) != (swapped != wrong) else "right"

    def label(
        self,
        answers: int,
        *,
        pause: float = READ,
        done: Callable[[], bool] = lambda: False,
        patience: float = 60.0,
    ) -> int:
        """Answer so many pairs, one each `pause` seconds; give how many were answered.

        Args:
            answers: At most.
            pause: Seconds from one answer to the next at least.
            done: Whether to stop, asked while nothing is on the screen.
            patience: Seconds to wait for a pair.
        """
        given, pressed = 0, 0.0
        waited = time.monotonic()
        while given < answers:
            shown = self.on_screen()
            if not shown or shown[2] <= self._answered:
                if done() or time.monotonic() - waited > patience:
                    break
                time.sleep(0.02)
                continue
            query, swapped, self._answered = shown
            answer = self.judge(query, swapped)
            time.sleep(max(0.0, self._answered + READ - time.time(), pressed + pause - time.time()))
            pressed = time.time()
            self._desktop.key(KEYS[answer])
            given += 1
            waited = time.monotonic()
        return given

    def close(self) -> None:
        """Let go of the store."""
        if self._store:
            self._store.close()
