"""The scripted teacher: compares two clips by a score, with a rate of mistakes.

The score of a clip is its true return, or what a user's own function makes of the clip::

    # still.py
    def score(clip):                                 # -> (T,) score per step
        return -abs(clip.infos["x_velocity"])

    prefrl train Hopper-v5 --oracle still.py:score

The oracle answers through the store like any other labeller, in the trainer's process and
synchronously, so that a benchmark is a pure function of its seed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prefrl.clips.clip import Clip
from prefrl.errors import RunFailed, UserError, nearest
from prefrl.labels.store import LabelStore
from prefrl.usercode import load_function

Score = Callable[[Clip], np.ndarray]
"""A clip's score per step, `(T,)`."""


@dataclass(frozen=True)
class Teacher:
    """How a scripted teacher errs; the names are those of B-Pref (Lee et al. 2021)."""

    mistake: float = 0.0
    """Probability that a decided answer is flipped."""


TEACHERS = {"oracle": Teacher(), "mistake": Teacher(mistake=0.1)}


def true_reward(clip: Clip) -> np.ndarray:
    """The environment's own reward per step, `(T,)`."""
    return clip.true_rewards


class Oracle:
    """Answers all pending queries of a store.

    Args:
        score: A clip's score per step.
        teacher: How it errs.
        seed: Decides the mistakes, each by its query's id alone, so that a resumed run meets
            the same ones.
    """

    def __init__(
        self,
        score: Score = true_reward,
        teacher: Teacher = TEACHERS["oracle"],
        *,
        seed: int = 0,
    ) -> None:
        self._score = score
        self._teacher = teacher
        self._seed = seed

    def __call__(self, store: LabelStore, step: int) -> None:
        """Answer what was asked by the agent's step `step` and is pending in `store`.

        Raises:
            UserError: The first answers of all are ties: the score tells no clips apart.
            RunFailed: The score is not a finite number for each step.
        """
        queries = store.pending(step)
        answers = []
        first = not store.count_answered()
        with store.transaction():
            for query in queries:
                start = time.perf_counter()
                left, right = store.clip(query.left_clip), store.clip(query.right_clip)
                answer = self.compare(left, right, np.random.default_rng([self._seed, query.id]))
                seconds = time.perf_counter() - start
                store.answer(query.id, answer, labeller="oracle", seconds=seconds, step=step)
                answers.append(answer)
        if first and set(answers) == {"equal"}:
            name = getattr(self._score, "__name__", "the score")
            raise UserError(
                f"all {len(answers)} pairs of the first batch are ties, so there is nothing to "
                f"learn from and no more is asked: the oracle's '{name}' tells no clips apart"
            )

    def compare(self, left: Clip, right: Clip, rng: np.random.Generator) -> str:
        """`left`, `right` or `equal`: the clip with the higher sum of scores.

        Args:
            left, right: The clips.
            rng: Draws whether this answer is a mistake.

        Raises:
            RunFailed: The score is not a finite number for each step.
        """
        returns = [float(np.sum(checked_scores(self._score, clip))) for clip in (left, right)]
        flip = rng.random() < self._teacher.mistake
        if returns[0] == returns[1]:
            return "equal"
        return "left" if (returns[0] > returns[1]) != flip else "right"


def checked_scores(score: Score, clip: Clip) -> np.ndarray:
    """Scores `(T,)` of a clip's steps.

    Raises:
        RunFailed: The function fails, or gives anything but a finite number for each step.
    """
    try:
        values = np.asarray(score(clip), np.float64)
    except Exception as error:  # the user's own code may fail in any way
        raise RunFailed(f"the oracle fails on a clip: {type(error).__name__}: {error}") from error
    if values.shape != (len(clip),):
        raise RunFailed(
            f"the oracle's score must have shape ({len(clip)},), one number a step, "
            f"got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise RunFailed(f"the oracle's score is not finite: {values[~np.isfinite(values)][0]}")
    return values


def teacher(name: str) -> Teacher:
    """The preset of that name.

    Raises:
        UserError: There is none.
    """
    if name not in TEACHERS:
        raise UserError(f"unknown teacher '{name}': {nearest(name, list(TEACHERS))}")
    return TEACHERS[name]


def load_score(spec: str, sample: Clip | None = None) -> Score:
    """The function that `FILE.py:FUNC` names.

    Args:
        spec: A Python file and a function in it, `FUNC(clip) -> (T,)`.
        sample: A clip to try the function on.

    Raises:
        UserError: The file or function is missing, fails, or gives a wrong shape or NaN.
    """
    score: Score = load_function(spec, "oracle")
    if sample is not None:
        try:
            checked_scores(score, sample)
        except RunFailed as error:
            raise UserError(str(error)) from None
    return score
