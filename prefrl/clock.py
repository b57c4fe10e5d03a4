"""Where the time of a run goes: seconds per stage, kept by one stopwatch."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("simulate", "policy", "optimise", "select", "fit", "label", "other")


class Stopwatch:
    """Seconds spent in each of `STAGES`; what no stage claims is `other`.

    Args:
        seconds: Seconds per stage so far, when a run is resumed.
    """

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self._spent = dict.fromkeys(STAGES, 0.0) | (seconds or {})
        self.start()

    def start(self) -> None:
        """Count from now on: what went before, such as making the environments, is not training."""
        self._started = time.perf_counter() - sum(self._spent.values())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block towards stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Count `seconds` towards stage `name`."""
        self._spent[name] += seconds

    @property
    def wall(self) -> float:
        """Seconds since the start, those before a resume included."""
        return time.perf_counter() - self._started

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds per stage; they add up to `wall`."""
        claimed = {name: value for name, value in self._spent.items() if name != "other"}
        return claimed | {"other": max(0.0, self.wall - sum(claimed.values()))}
