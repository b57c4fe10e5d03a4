"""Query rules: which pairs an answer would teach most about.

A score is a small pure function of what the members believe,
`(n_members, n_pairs) -> (n_pairs,)`, higher is asked first. A rule shares the queries of a batch
out among scores. The default, `mutual-information`, is the one that did best in
`docs/benchmarks.md`; a new rule is a new line in `RULES`, or the user's own function::

    # split.py
    def score(preferences):              # (n_members, n_pairs), each member's P(left is better)
        return preferences.max(axis=0) - preferences.min(axis=0)

    prefrl train Hopper-v5 --query split.py:score
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from prefrl.errors import CodeFailed, UserError, nearest, sentence
from prefrl.usercode import load_function

Score = Callable[[np.ndarray], np.ndarray]
"""`(n_members, n_pairs) -> (n_pairs,)`, from each member's probability that left is better."""


def disagreement(preferences: np.ndarray) -> np.ndarray:
    """Variance over members of the predicted preference (Christiano et al. 2017, 2.2.4)."""
    return preferences.var(axis=0)


def entropy(preferences: np.ndarray) -> np.ndarray:
    """How open the answer is to the members together: entropy of their mean preference, nats.

    High for a pair of equals, too, about which there is nothing to learn (B-Pref, Lee et al. 2021).
    """
    return _entropy(preferences.mean(axis=0))


def mutual_information(preferences: np.ndarray) -> np.ndarray:
    """What the answer would tell about the members, nats: BALD (Houlsby et al. 2011, eq. 2).

    The entropy of their mean less the mean of their entropies: high where members are each sure,
    of different things.
    """
    information = _entropy(preferences.mean(axis=0)) - _entropy(preferences).mean(axis=0)
    return np.maximum(information, 0.0)  # rounding may leave a little less than nothing


def _entropy(p: np.ndarray) -> np.ndarray:
    """Of a choice between two, the first with probability `p`, nats."""
    return entr(p) + entr(1 - p)


@dataclass(frozen=True)
class Share:
    """A part of a batch of queries and how it is filled."""

    of_batch: float = 1.0
    score: Score | None = None
    """Which pairs come first; None: they come in any order."""
    shortlist: int = 0
    """Best-scored pairs, for each one wanted, among which those are taken that lie farthest
    apart; 0: the best-scored themselves are taken."""


@dataclass(frozen=True)
class Rule:
    """How a batch of queries is chosen."""

    shares: tuple[Share, ...]
    newest: float = 1.0
    """Share of the clips, the newest of them, of which pairs are made."""


RULES: dict[str, Rule] = {
    "random": Rule((Share(),)),
    "disagreement": Rule((Share(score=disagreement),)),
    "entropy": Rule((Share(score=entropy),)),
    "mutual-information": Rule((Share(score=mutual_information),)),
    # k-centre on the clips' embeddings, alone (B-Pref's "diversity") ...
    "diverse": Rule((Share(shortlist=10),)),
    # ... and among the uncertain ones (B-Pref's "hybrid").
    "diverse-disagreement": Rule((Share(score=disagreement, shortlist=4),)),
    # Near the present policy, which is where the reward is used next (QPA, Hu et al. 2024).
    "near-policy": Rule((Share(),), newest=0.2),
    # Insurance against a score that errs, whose choice alone can do worse than random (Christiano
    # et al. 2017, section 3.3): half uncertain and spread, half random.
    "hybrid": Rule((Share(0.5, disagreement, shortlist=4), Share(0.5))),
}


def find_rule(name: str, members: int) -> Rule:
    """The rule of that name, or one that asks first what the user's own score puts first.

    Args:
        name: A name in `RULES`, or `FILE.py:FUNC`.
        members: Members of the ensemble; the user's function is tried on that many.

    Raises:
        UserError: There is no such rule, or the function fails, or gives a wrong shape or NaN.
    """
    if ":" not in name and not name.endswith(".py"):
        if name not in RULES:
            raise UserError(f"unknown query rule '{name}': {nearest(name, list(RULES))}")
        return RULES[name]
    score = load_function(name, "query rule")
    rng = np.random.default_rng(0)
    certain = np.tile([0.0, 1.0, 0.5], (members, 1))  # where a logarithm would not do
    try:
        checked_score(score, np.concatenate([rng.random((members, 17)), certain], axis=1))
    except CodeFailed as error:
        raise UserError(f"{error}; nothing was asked") from None
    return Rule((Share(score=score),))


def checked_score(score: Score, preferences: np.ndarray) -> np.ndarray:
    """Scores `(n_pairs,)` of pairs by `preferences (n_members, n_pairs)`.

    Raises:
        CodeFailed: The function fails, or gives anything but a number for each pair.
    """
    name = f"the query rule '{getattr(score, '__name__', 'score')}'"
    try:
        values = np.asarray(score(preferences.copy()), np.float64)
    except (Exception, SystemExit) as error:  # the user's own code may fail in any way
        raise CodeFailed(f"{name} fails: {sentence(error)}") from error
    if values.shape != preferences.shape[1:]:
        raise CodeFailed(
            f"{name} must turn preferences {preferences.shape} into scores "
            f"{preferences.shape[1:]}, one for each pair, got {values.shape}"
        )
    if holes := int(np.isnan(values).sum()):
        raise CodeFailed(f"{name} gives NaN for {holes} of {len(values)} pairs")
    return values
