"""Query rules: how much an answer about a pair of clips would teach.

A score is a small pure function of what the members believe,
`(n_members, n_pairs) -> (n_pairs,)`, higher is asked first. A rule shares the queries of a batch
out among scores; a new rule is a new line in `RULES`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Score = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""`(preferences (n_members, n_pairs), rng) -> (n_pairs,)`; preferences are P(left)."""


def random(preferences: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Any order: the baseline that an informed rule has to beat."""
    return rng.random((preferences.shape[1],))


def disagreement(preferences: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Variance over members of the predicted preference (Christiano et al. 2017, 2.2.4)."""
    return preferences.var(axis=0)


@dataclass(frozen=True)
class Share:
    """A part of a batch of queries and the score that fills it."""

    of_batch: float
    score: Score
    diverse: bool = False
    """Whether pairs are spread out among the best-scored instead of taken from the top."""


RULES: dict[str, tuple[Share, ...]] = {
    "random": (Share(1.0, random),),
    "disagreement": (Share(1.0, disagreement),),
    # The top of a score alone is a trap: it returns near-duplicates, and can do worse than
    # random (Christiano et al. 2017, section 3.3). So: half uncertain and spread, half random.
    "hybrid": (Share(0.5, disagreement, diverse=True), Share(0.5, random)),
}
