"""The label schedule: how many labels are due by which step."""

import bisect
import math
from dataclasses import dataclass

from prefrl.errors import UserError


@dataclass(frozen=True)
class LabelSchedule:
    """A share of the budget at once, the rest at a rate that falls with time.

    The rate after progress `x` (steps over `until`) is proportional to `1 / (1 + decay * x)`, the
    form of Christiano et al. 2017 (appendix A), with the time scale relative to the run.

    Raises:
        UserError: A number is outside of what it can be.
    """

    budget: int
    """Labels in all."""
    until: int
    """Step by which they are all due."""
    initial: float = 0.25
    """Share that is due from the start."""
    decay: float = 0.5
    """How fast the rate falls; 0: not at all."""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("budget", self.budget, 0, math.inf),
            ("until", self.until, 1, math.inf),
            ("initial", self.initial, 0, 1),
            ("decay", self.decay, 0, math.inf),
        ):
            if not low <= value <= high:
                raise UserError(f"a schedule's {name} must be from {low} to {high}, got {value}")

    @property
    def first(self) -> int:
        """Labels in the first batch."""
        return min(self.budget, max(1, round(self.budget * self.initial)))

    @property
    def enough(self) -> int:
        """Labels that the first fit waits for, where they come one by one."""
        return min(10, self.first)

    def due(self, step: int) -> int:
        """Labels due by the agent's step `step`."""
        progress = min(1.0, step / self.until)
        share = (
            math.log1p(self.decay * progress) / math.log1p(self.decay) if self.decay else progress
        )
        return self.first + math.floor((self.budget - self.first) * share + 1e-9)

    def step_of(self, n: int) -> int:
        """The step by which `n` labels are due, `n` at most the budget."""
        return bisect.bisect_left(range(self.until), n, key=self.due)
