"""What is asked and what is answered: a pair of clips, and which of them is better."""

from dataclasses import dataclass

ANSWERS = ("left", "right", "equal", "skip")

WITHDRAWN = "withdrawn"
"""Takes back the answer before it."""

_OTHER_SIDE = {"left": "right", "right": "left"}

PREFERENCE = {"left": 1.0, "right": 0.0, "equal": 0.5, "skip": None}
"""Answer → preference for the left clip; None: cannot tell, not trained on."""


@dataclass(frozen=True)
class Query:
    """An ordered pair of clips that was put to a labeller."""

    id: int
    left_clip: int
    right_clip: int
    step: int
    """The agent's step at asking."""
    rule: str
    repeats: int | None
    """Query that this one probes again, if it is a probe."""


@dataclass(frozen=True)
class Label:
    """The standing answer to a query."""

    query: Query
    answer: str
    """`left`, `right`, `equal` or `skip`: which clip is better, in the query's own order."""
    labeller: str
    seconds: float
    """Time that the labeller took, s."""
    swapped: bool
    """Whether the left clip was shown on the right."""
    step: int
    """The agent's step at answering."""

    @property
    def preference(self) -> float | None:
        """Preference for the left clip: 1, 0, ½, or None for a skip."""
        return PREFERENCE[self.answer]


def turned(answer: str, swapped: bool) -> str:
    """An answer about the screen's sides as one in the query's own order, and the reverse.

    Args:
        answer: `left`, `right`, or what is the same on both sides.
        swapped: Whether the left clip is shown on the right.
    """
    return _OTHER_SIDE.get(answer, answer) if swapped else answer
