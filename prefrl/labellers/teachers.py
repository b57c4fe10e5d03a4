"""Scripted teachers: how an answer comes of two clips' scores, and how it goes wrong.

The five knobs of B-Pref (Lee et al. 2021, algorithm 2) in its order: skip, answer, mistake, equal.
Two things are said anew, because rewards come on any scale here and are not within 0 and 1:

- Rationality is per standard deviation of recent clips' returns, not per unit of reward.
- The thresholds of skip and equal are shares of the recent clips' mean return, as published; while
  that mean is not positive, as it is of a half-cheetah that cannot run yet, nothing is skipped or
  called equal for them.

Three more knobs make a teacher `human-like`: equal where clips are alike, lapses, a side bias.
"""

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from prefrl.errors import UserError, nearest
from prefrl.labels.answers import ANSWERS

LEFT, RIGHT, EQUAL, SKIP = (ANSWERS.index(a) for a in ("left", "right", "equal", "skip"))

DRAWS = 3
"""Uniform random numbers that an answer takes."""


@dataclass(frozen=True)
class Teacher:
    """How a scripted teacher answers; the defaults are the perfect one."""

    rationality: float = math.inf
    """B-Pref's beta: left is preferred with the probability of the logistic function of beta times
    the difference in return, in standard deviations of recent clips' returns."""
    myopia: float = 1.0
    """B-Pref's gamma: the score of the step `k` before a clip's last one counts `gamma ** k`."""
    mistake: float = 0.0
    """B-Pref's epsilon: probability that a decided answer is flipped."""
    skip: float = 0.0
    """A pair is skipped where neither clip has a return above this share of the recent mean."""
    equal: float = 0.0
    """A pair is equal where its returns differ by less than this share of the recent mean."""
    alike: float = 0.0
    """A pair is equal where its returns differ by less than this many standard deviations."""
    lapse: float = 0.0
    """Probability that a decided answer is a guess."""
    side_bias: float = 0.0
    """By how much more than half of the guesses are left."""

    @property
    def relative(self) -> bool:
        """Whether answers depend on what recent clips' returns were like."""
        return self.skip > 0 or self.equal > 0 or self.alike > 0 or self.rationality < math.inf

    def answer(
        self,
        left: np.ndarray,
        right: np.ndarray,
        draws: np.ndarray,
        *,
        mean: float = 0.0,
        deviation: float = 0.0,
    ) -> np.ndarray:
        """Answers to pairs of clips: `(n,)` places in `ANSWERS`.

        Two clips of the same return but for rounding (to `myopic`: of the same weighted return)
        are equal, to all but a teacher that is not fully rational, who guesses.

        Args:
            left, right: `(n, T)` scores of each step of each clip.
            draws: `(n, DRAWS)` uniform random numbers.
            mean, deviation: Of recent clips' returns.
        """
        returns = left.sum(axis=1), right.sum(axis=1)
        apart = np.abs(returns[0] - returns[1])
        weights = self.myopia ** np.arange(left.shape[1])[::-1]
        difference = left @ weights - right @ weights
        # Sums of the same scores in another order differ by rounding.
        rounding = 1e-9 * (np.abs(left) @ weights + np.abs(right) @ weights)
        difference = np.where(np.abs(difference) <= rounding, 0.0, difference)
        if math.isinf(self.rationality):
            answers = np.select([difference > 0, difference < 0], [LEFT, RIGHT], EQUAL)
        else:
            steepness = self.rationality / deviation if deviation else 0.0
            prefers_left = 1 / (1 + np.exp(np.clip(-steepness * difference, -500, 500)))
            answers = np.where(draws[:, 0] < prefers_left, LEFT, RIGHT)
        # A lapse and a mistake are the low and the high end of one draw.
        guesses = np.where(draws[:, 2] < 0.5 + self.side_bias, LEFT, RIGHT)
        decided = answers != EQUAL
        answers = np.where(decided & (draws[:, 1] < self.lapse), guesses, answers)
        flipped = decided & (draws[:, 1] >= 1 - self.mistake)
        answers = np.where(flipped, LEFT + RIGHT - answers, answers)
        alike = max(self.equal * mean, self.alike * deviation)
        answers = np.where(apart < alike, EQUAL, answers)
        if self.skip > 0 and mean > 0:
            answers = np.where(np.maximum(*returns) <= self.skip * mean, SKIP, answers)
        return answers


TEACHERS = {
    "oracle": Teacher(),
    # B-Pref's presets, its section 5.1.
    "stoc": Teacher(rationality=1.0),
    "mistake": Teacher(mistake=0.1),
    "skip": Teacher(skip=0.1),
    "equal": Teacher(equal=0.1),
    "myopic": Teacher(myopia=0.9),
    # `alike` and `rationality` are fitted to what CLARIFY (ICML 2025) reports of people who are
    # asked about pairs that an ensemble disputes (OPRL, its baseline): 53 % are clear to them, and
    # of those they label 66.7 % as the true return would. The pairs fitted on are those that
    # `mutual-information` asks here (benchmarks/people.py). 10 % guesses: Christiano et al. 2017,
    # section 2.2.3. That guesses lean to one side: Garcia-Perez and Alcala-Quintana 2011; by how
    # much in comparing clips is not known, so that a tenth is assumed.
    "human-like": Teacher(rationality=0.9, alike=0.28, lapse=0.1, side_bias=0.1),
}


HIGHEST = {"mistake": 1.0, "lapse": 1.0, "myopia": 1.0, "side_bias": 0.5}
"""Of the knobs that are bounded; none is below 0."""


def teacher(words: str) -> Teacher:
    """The teacher that words describe.

    Args:
        words: A preset's name, knobs as `KNOB=VALUE`, or the one and then the others, with commas
            between them: `mistake`, `mistake=0.2,skip=0.1`, `human-like,side_bias=0.3`.

    Raises:
        UserError: There is no such preset or knob, or a value is none that it can have.
    """
    name, *turned = words.split(",")
    if "=" in name:
        name, turned = "oracle", [name, *turned]
    if name not in TEACHERS:
        raise UserError(f"unknown teacher '{name}': {nearest(name, list(TEACHERS))}")
    found = replace(TEACHERS[name], **dict(map(_knob, turned)))
    if found.mistake + found.lapse > 1:
        raise UserError(f"teacher '{words}': mistake and lapse are at most 1 together")
    return found


def _knob(word: str) -> tuple[str, float]:
    """Name and value of a knob, written `KNOB=VALUE`."""
    name, _, text = word.partition("=")
    known = [knob.name for knob in fields(Teacher)]
    if name not in known:
        raise UserError(f"a teacher has no knob '{name}': {nearest(name, known)}")
    highest = HIGHEST.get(name, math.inf)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= highest:
        raise UserError(f"a teacher's {name} must be a number from 0 to {highest:g}, got '{text}'")
    return name, value
