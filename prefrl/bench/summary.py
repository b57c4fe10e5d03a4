"""The summary of a suite: one row per task and condition, and one per condition over all tasks.

Returns are normalised per task: 0 is what random actions get, 1 is the mean of the reference
condition, as a rule the same PPO on the true reward.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefrl.bench.results import Row
from prefrl.bench.stats import Scores, improvement, interval, iqm, mean, mean_interval
from prefrl.bench.suites import ALL, RANDOM_ACTIONS

NAN = float("nan")


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95 % interval; NaN where there is none, as for a single run."""

    value: float = NAN
    low: float = NAN
    high: float = NAN


@dataclass(frozen=True)
class Summary:
    """One condition, on one task or on all."""

    task: str
    """Or `ALL`."""
    condition: str
    tasks: int
    """How many have runs of the condition."""
    runs: int
    labels: float
    """Answered, mean over runs."""
    steps: int
    """Of the longest run."""
    true_return: Estimate
    """Mean over runs, with Student's interval; none over all tasks, whose scales differ."""
    deviation: float
    """Standard deviation of that over runs (with `n - 1`)."""
    normalised: Estimate
    """Interquartile mean of the normalised returns, with a stratified bootstrap interval."""
    improvement: Estimate
    """Probability that a run beats one of the baseline's on the same task; likewise."""
    difference: Estimate
    """Mean of the normalised returns less those of the baseline's runs of the same seeds: runs of
    one seed begin alike. With Student's interval for one task, else the bootstrap's."""

    def cells(self) -> dict[str, object]:
        """The summary as a row of a table."""
        row: dict[str, object] = {
            "task": self.task,
            "condition": self.condition,
            "tasks": self.tasks,
            "runs": self.runs,
            "labels": self.labels,
            "steps": self.steps,
        }
        for name in ("true_return", "normalised", "improvement", "difference"):
            estimate: Estimate = getattr(self, name)
            row |= {
                name: estimate.value,
                f"{name}_low": estimate.low,
                f"{name}_high": estimate.high,
            }
        return row | {"true_return_std": self.deviation}


Returns = Mapping[tuple[str, str], np.ndarray]
"""`(n_runs,)` by task and condition."""


def returns_of(rows: Iterable[Row]) -> Returns:
    """The runs' true returns."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in sorted(rows, key=lambda row: row.key):
        found.setdefault((row.task, row.condition), []).append(row.true_return_mean)
    return {key: np.array(values) for key, values in found.items()}


def normalise(returns: Returns, reference: str) -> Returns:
    """Returns with 0 for random actions and 1 for the reference's mean.

    Tasks that lack either, or on which the reference is not above random actions, are left out.
    """
    scales = _scales(returns, reference)
    return {
        (task, condition): (values - scales[task][0]) / (scales[task][1] - scales[task][0])
        for (task, condition), values in returns.items()
        if task in scales and condition != RANDOM_ACTIONS
    }


def pair_up(rows: Iterable[Row], reference: str, baseline: str) -> Returns:
    """Normalised returns less those of the baseline's runs of the same task and seed.

    Args:
        rows: The runs, and those of random actions.
        reference: The condition whose mean counts as 1.
        baseline: The condition beside which others are put.

    Returns:
        `(n_pairs,)` by task and condition, in the order of seeds; seeds that only one of them has
        are left out, and tasks that cannot be normalised.
    """
    rows = sorted(rows, key=lambda row: row.key)
    scales = _scales(returns_of(rows), reference)
    others = {(r.task, r.seed): r.true_return_mean for r in rows if r.condition == baseline}
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.task in scales and row.condition not in (baseline, RANDOM_ACTIONS):
            zero, one = scales[row.task]
            if (other := others.get((row.task, row.seed))) is not None:
                pairs = found.setdefault((row.task, row.condition), [])
                pairs.append((row.true_return_mean - other) / (one - zero))
    return {key: np.array(values) for key, values in found.items()}


def _scales(returns: Returns, reference: str) -> dict[str, tuple[float, float]]:
    """By task what counts as 0 and as 1, where both are known and in that order."""
    found = {}
    for task in {task for task, _ in returns}:
        zero, one = returns.get((task, RANDOM_ACTIONS)), returns.get((task, reference))
        if zero is not None and one is not None and one.mean() > zero.mean():
            found[task] = (float(zero.mean()), float(one.mean()))
    return found


def summarise(rows: Sequence[Row], *, reference: str = "", baseline: str = "") -> list[Summary]:
    """One summary per task and condition, then one per condition over all its tasks.

    Args:
        rows: The runs, and those of random actions.
        reference: The condition that counts as 1; nothing is normalised without one.
        baseline: The condition over which others may be an improvement.
    """
    rng = np.random.default_rng(0)
    returns = returns_of(rows)
    normalised = normalise(returns, reference)
    pairs = pair_up(rows, reference, baseline)
    tasks = list(dict.fromkeys(row.task for row in rows))
    conditions = list(dict.fromkeys(r.condition for r in rows if r.condition != RANDOM_ACTIONS))

    def estimate(statistic: Callable[..., np.ndarray], *groups: Scores) -> Estimate:
        if not all(groups):
            return Estimate()
        value = float(statistic(*groups))
        if all(len(runs) == 1 for group in groups for runs in group):
            return Estimate(value)
        low, high = interval(statistic, *groups, rng=rng)
        return Estimate(value, float(low), float(high))

    def difference(groups: list[np.ndarray]) -> Estimate:
        return _mean(groups[0]) if len(groups) == 1 else estimate(mean, groups)

    def summary(condition: str, among: Sequence[str]) -> Summary | None:
        runs = [row for row in rows if row.condition == condition and row.task in among]
        if not runs:
            return None
        found = [task for task in among if (task, condition) in returns]
        on_scale = [t for t in found if (t, condition) in normalised]
        compared = [t for t in found if (t, baseline) in returns and condition != baseline]
        true_returns = [returns[task, condition] for task in found]
        alone = len(among) == 1
        return Summary(
            task=among[0] if alone else ALL,
            condition=condition,
            tasks=len(found),
            runs=len(runs),
            labels=float(np.mean([row.labels_answered for row in runs])),
            steps=max(row.steps for row in runs),
            true_return=_mean(true_returns[0]) if alone else Estimate(),
            deviation=float(true_returns[0].std(ddof=1)) if alone and len(runs) > 1 else NAN,
            normalised=estimate(iqm, [normalised[task, condition] for task in on_scale]),
            improvement=estimate(
                improvement,
                [returns[task, condition] for task in compared],
                [returns[task, baseline] for task in compared],
            ),
            difference=difference([pairs[t, condition] for t in found if (t, condition) in pairs]),
        )

    blocks = [[task] for task in tasks] + ([tasks] if len(tasks) > 1 else [])
    summaries = [summary(condition, among) for among in blocks for condition in conditions]
    return [found for found in summaries if found]


def _mean(values: np.ndarray) -> Estimate:
    return Estimate(float(values.mean()), *mean_interval(values))
