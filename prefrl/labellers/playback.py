"""Which frame is on: a pair of clips that loops in step, at a tempo that a person chooses."""

from prefrl.labellers.player import Pair

HOLD = 0.4
"""Seconds that the last frame of a loop stays."""

TEMPI = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Paces to choose from, as shares of a clip's own."""


class Playback:
    """Which frame of a looping pair is on.

    Args:
        pair: The clips.
        tempo: How much faster than their default.
        now: The time, s; it begins now.
    """

    def __init__(self, pair: Pair, tempo: float, now: float) -> None:
        self._frames = len(pair.left)
        self._fps = pair.fps
        self._tempo = tempo
        self._start = now
        self._stopped: int | None = None

    @property
    def stopped(self) -> bool:
        """Whether it stands still."""
        return self._stopped is not None

    def frame(self, now: float) -> int:
        """The frame that is on, from 0."""
        if self._stopped is not None:
            return self._stopped
        loop = self._frames / (self._fps * self._tempo) + HOLD
        place = (now - self._start) % loop
        return min(self._frames - 1, int(place * self._fps * self._tempo))

    def restart(self, now: float) -> None:
        """Play from the first frame."""
        self._start = now
        self._stopped = None

    def pause(self, now: float) -> None:
        """Stop, or go on from where it stopped."""
        if self._stopped is None:
            self._stopped = self.frame(now)
        else:
            self._start = self._start_for(self._stopped, now)
            self._stopped = None

    def turn(self, frames: int, now: float) -> None:
        """Stop and go on by so many frames, or back."""
        self._stopped = (self.frame(now) + frames) % self._frames

    def set_tempo(self, tempo: float, now: float) -> None:
        """Play faster or slower from here on."""
        frame = self.frame(now)
        self._tempo = tempo
        self._start = self._start_for(frame, now)

    def _start_for(self, frame: int, now: float) -> float:
        """When it would have begun to be in the middle of `frame` now."""
        return now - (frame + 0.5) / (self._fps * self._tempo)
