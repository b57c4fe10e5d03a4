"""The scripted oracle: compares two clips by a score, and errs as its teacher does.

The score of a clip is its true return, or what a user's own function makes of the clip::

    # still.py
    def score(clip):                                 # -> (T,) score per step
        return -abs(clip.infos["x_velocity"])

    prefrl train Hopper-v5 --oracle still.py:score

The oracle answers through the store like any other labeller, in the trainer's process and
synchronously, so that a benchmark is a pure function of its seed.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from prefrl.clips.clip import Clip
from prefrl.errors import CodeFailed, UserError, sentence
from prefrl.labellers.teachers import DRAWS, TEACHERS, Teacher
from prefrl.labels.answers import ANSWERS, Query
from prefrl.labels.store import LabelStore
from prefrl.usercode import load_function

log = logging.getLogger(__name__)

Score = Callable[[Clip], np.ndarray]
"""A clip's score per step, `(T,)`."""


RECENT = 100
"""Clips asked about last, whose returns a teacher goes by."""


def true_reward(clip: Clip) -> np.ndarray:
    """The environment's own reward per step, `(T,)`."""
    return clip.true_rewards


class Oracle:
    """Answers all pending queries of a store.

    Args:
        score: A clip's score per step.
        teacher: How it errs.
        seed: Decides the errors, each by its query's id alone, so that a resumed run meets the
            same ones.
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
        self._returns: dict[int, float] = {}  # by clip
        self._tells_apart = False
        self._warned = False

    def __call__(self, store: LabelStore, step: int) -> None:
        """Answer what was asked by the agent's step `step` and is pending in `store`.

        Raises:
            UserError: All answers so far are ties: the score tells no clips apart.
            CodeFailed: The score is not a finite number for each step.
        """
        if queries := store.pending(step):
            start = time.perf_counter()
            answers = self._answer(store, queries)
            seconds = (time.perf_counter() - start) / len(queries)
            with store.transaction():
                for query, answer in zip(queries, answers, strict=True):
                    store.answer(query.id, answer, labeller="oracle", seconds=seconds, step=step)
        if not self._tells_apart:
            self._refuse_ties(store)

    def _refuse_ties(self, store: LabelStore) -> None:
        """Stop at the first batch, or where a run goes on after it, if all its pairs are ties."""
        asked = [label.query for label in store.labels() if label.query.step]  # not taken over
        self._tells_apart = any(
            self._return(store, query.left_clip) != self._return(store, query.right_clip)
            for query in asked
        )
        if asked and not self._tells_apart:
            if self._score is true_reward:
                why = (
                    "the environment's own reward tells no clips apart: start again with --oracle "
                    "FILE.py:FUNC, a score that does, or with --labeller human"
                )
            else:
                name = getattr(self._score, "__name__", "the score")
                why = f"the oracle's '{name}' tells no clips apart: mend it and start again"
            raise UserError(
                f"all {len(asked)} pairs of the first batch are ties, so there is nothing to "
                f"learn from and no more is asked; {why}"
            )

    def _answer(self, store: LabelStore, queries: Sequence[Query]) -> list[str]:
        """`left`, `right`, `equal` or `skip` for each query."""
        left, right = (
            np.stack([self._scores(store, clip) for clip in clips])
            for clips in zip(*((q.left_clip, q.right_clip) for q in queries), strict=True)
        )
        draws = np.stack([self._draws(query) for query in queries])
        mean = deviation = 0.0
        if self._teacher.relative:
            mean, deviation = self._recent(store, max(query.step for query in queries))
            self._warn_of_no_share(mean)
        places = self._teacher.answer(left, right, draws, mean=mean, deviation=deviation)
        return [ANSWERS[place] for place in places]

    def _draws(self, query: Query) -> np.ndarray:
        """`(DRAWS,)` uniform random numbers of a query."""
        # Apart from what else is drawn by a seed and a query's id, as a label's weights are.
        stream = np.random.SeedSequence([self._seed, query.id], spawn_key=(1,))
        return np.random.default_rng(stream).random(DRAWS)

    def _warn_of_no_share(self, mean: float) -> None:
        """Say once that a teacher's shares of the mean return are none, where that is below 0."""
        names = [name for name in ("equal", "skip") if getattr(self._teacher, name)]
        if names and mean <= 0 and not self._warned:
            self._warned = True
            log.warning(
                "recent clips' mean return is %.3g: until that is above 0, the teacher's %s, as a "
                "share of it, changes no answer",
                mean,
                " or ".join(names),
            )

    def _scores(self, store: LabelStore, clip: int) -> np.ndarray:
        """`(T,)` scores of the clip with that id."""
        scores = checked_scores(self._score, store.clip(clip))
        self._returns[clip] = float(scores.sum())
        return scores

    def _recent(self, store: LabelStore, step: int) -> tuple[float, float]:
        """Mean and standard deviation of the returns of the clips asked about last by `step`."""
        queries = store.latest_queries(step, RECENT // 2)
        clips = [clip for query in queries for clip in (query.left_clip, query.right_clip)]
        returns = [self._return(store, clip) for clip in clips]
        return float(np.mean(returns)), float(np.std(returns))

    def _return(self, store: LabelStore, clip: int) -> float:
        """The return of the clip with that id."""
        if clip not in self._returns:  # asked about before the run was resumed
            self._scores(store, clip)
        return self._returns[clip]


def checked_scores(score: Score, clip: Clip) -> np.ndarray:
    """Scores `(T,)` of a clip's steps.

    Raises:
        CodeFailed: The function fails, or gives anything but a finite number for each step.
    """
    try:
        given = np.asarray(score(clip))
        values = given.real.astype(np.float64)
    except (Exception, SystemExit) as error:  # the user's own code may fail in any way
        names = ", ".join(clip.infos) or "nothing"
        hint = f"; clip.infos has {names}" if isinstance(error, KeyError) else ""
        raise CodeFailed(f"the oracle fails on a clip: {sentence(error)}{hint}") from error
    if np.iscomplexobj(given):
        raise CodeFailed("the oracle's score must be real numbers, got complex ones")
    if values.shape != (len(clip),):
        raise CodeFailed(
            f"the oracle's score must have shape ({len(clip)},), one number a step, "
            f"got {values.shape}"
        )
    if not np.isfinite(values).all():
        hole = values[~np.isfinite(values)][0]
        raise CodeFailed(f"the oracle's score is not finite: {hole}{_holes_in(clip)}")
    return values


def _holes_in(clip: Clip) -> str:
    """What in a clip is not finite, to name in errors; empty if all is."""
    parts = {"true_rewards": clip.true_rewards} | {
        f"infos['{name}']": values for name, values in clip.infos.items()
    }
    holes = [f"clip.{name}" for name, part in parts.items() if not np.isfinite(part).all()]
    return f"; nor is the environment's {', '.join(holes)}" if holes else ""


def _twice(clip: Clip) -> Clip:
    """A clip after itself: another length."""
    return replace(
        clip,
        observations=np.concatenate([clip.observations] * 2),
        actions=np.concatenate([clip.actions] * 2),
        true_rewards=np.concatenate([clip.true_rewards] * 2),
        states=np.concatenate([clip.states] * 2),
        infos={name: np.concatenate([values] * 2) for name, values in clip.infos.items()},
    )


def load_score(spec: str, sample: Clip | None = None) -> Score:
    """The function that `FILE.py:FUNC` names.

    Args:
        spec: A Python file and a function in it, `FUNC(clip) -> (T,)`. It meets clips of one
            length, and whole episodes.
        sample: A clip to try the function on.

    Raises:
        UserError: The file or function is missing, fails, or gives a wrong shape or NaN.
    """
    score: Score = load_function(spec, "oracle")
    if sample is not None:
        try:
            checked_scores(score, sample)
            checked_scores(score, _twice(sample))
        except CodeFailed as error:
            raise UserError(str(error)) from None
    return score
