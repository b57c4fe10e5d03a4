"""Query rules beside `random`, seed by seed: `python benchmarks/paired.py`.

Runs of one seed begin alike: with the same policy, and the same pairs until a reward is there to
choose by. So what a rule does shows in the difference between two runs of one seed, in units of the
true reward's return over that of random actions. Runs are paired within each measurement; their
differences are put together.
"""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from prefrl.bench.stats import interval, mean
from prefrl.bench.suites import RANDOM_ACTIONS

HERE = Path(__file__).parent

MEASUREMENTS = (
    (HERE / "results" / "rules" / "results.csv", HERE / "swimmer_rules.csv"),
    (HERE / "earlier" / "rules-40-steps" / "results.csv",),
    (HERE / "earlier" / "rules" / "results.csv",),
)
"""Tables of one program each, that of today first."""

BASELINE, CEILING = "random", "true-reward"

FLIPS = 20_000
"""Draws of the permutation test."""

Returns = dict[str, dict[str, dict[int, float]]]
"""True return by task, condition and seed."""


def main() -> None:
    """Print a table with a row for each rule."""
    differences: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for tables in MEASUREMENTS:
        for task, by_rule in read(*tables).items():
            random = by_rule[BASELINE]
            zero = by_rule[RANDOM_ACTIONS][0]
            one = float(np.mean(list(by_rule[CEILING].values())))
            for rule in by_rule.keys() - {BASELINE, CEILING, RANDOM_ACTIONS}:
                differences[rule][task] += [
                    (value - random[seed]) / (one - zero)
                    for seed, value in sorted(by_rule[rule].items())
                ]
    rng = np.random.default_rng(0)
    tasks = sorted({task for by_task in differences.values() for task in by_task})
    print(f"| rule | pairs | better | difference | p | {' | '.join(tasks)} |")
    print("| --- | --- | --- | --- | --- |" + " --- |" * len(tasks))
    rows = {rule: [np.array(by_task[t]) for t in tasks] for rule, by_task in differences.items()}
    for rule, scores in sorted(rows.items(), key=lambda row: -float(mean(row[1]))):
        low, high = interval(mean, scores, rng=rng)
        pairs = np.concatenate(scores)
        print(
            f"| {rule} | {len(pairs)} | {(pairs > 0).mean():.2f} "
            f"| {mean(scores):+.2f} [{low:+.2f}, {high:+.2f}] | {by_chance(scores, rng):.3f} | "
            + " | ".join(f"{task.mean():+.2f}" for task in scores)
            + " |"
        )


def read(*paths: Path) -> Returns:
    """The returns of these tables."""
    found: Returns = defaultdict(lambda: defaultdict(dict))
    for path in paths:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                value = float(row["true_return_mean"])
                found[row["task"]][row["condition"]][int(row["seed"])] = value
    return found


def by_chance(scores: list[np.ndarray], rng: np.random.Generator) -> float:
    """How often a mean so far from 0 comes about where either run of a pair may be the better one.

    A permutation test: the signs of all differences are drawn anew.
    """
    drawn = mean([task * rng.choice([-1, 1], (FLIPS, len(task))) for task in scores])
    return float((np.abs(drawn) >= abs(mean(scores)) - 1e-12).mean())


if __name__ == "__main__":
    main()
