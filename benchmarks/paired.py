"""Conditions side by side, seed by seed: `python benchmarks/paired.py [rules|teachers]`.

The column `difference` of a suite's `aggregate.csv`, put together from several measurements, within
which runs are paired, and for pairs of conditions that no suite compares. A seed's differences in
several measurements are alike, so its mean is one number, and seeds, not runs, are drawn anew.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from prefrl.bench.results import Row
from prefrl.bench.stats import interval, mean
from prefrl.bench.summary import pair_up

HERE = Path(__file__).parent

MEASUREMENTS = {
    "rules": (
        (HERE / "results" / "rules" / "results.csv", HERE / "swimmer_rules.csv"),
        (HERE / "earlier" / "rules-40-steps" / "results.csv",),
        (HERE / "earlier" / "rules" / "results.csv",),
    ),
    "teachers": (
        (HERE / "results" / "teachers" / "results.csv",),
        (HERE / "earlier" / "teachers-40-steps" / "results.csv",),
    ),
}
"""Tables of one program each."""

PAIRS = {
    "rules": [
        (rule, "random")
        for rule in (
            "mutual-information",
            "disagreement",
            "entropy",
            "hybrid",
            "diverse-disagreement",
            "near-policy",
            "diverse",
        )
    ],
    "teachers": [
        *(
            (teacher, "oracle")
            for teacher in ("equal", "skip", "mistake", "stoc", "myopic", "human-like")
        ),
        ("oracle", "oracle-no-error-term"),
        ("mistake", "mistake-no-error-term"),
        ("human-like", "human-like-no-error-term"),
        ("equal", "equal-left-out"),
        ("human-like", "human-like-equal-left-out"),
    ],
}
"""Conditions, each with the one that it is to be compared with."""

CEILING = "true-reward"

FLIPS = 20_000
"""Draws of the permutation test."""


def main() -> None:
    """Print a table for each suite."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(PAIRS)}")
    for suite in parser.parse_args().suites or PAIRS:
        if suite not in PAIRS:
            parser.error(f"unknown suite '{suite}': there are {', '.join(PAIRS)}")
        tables = [read(*paths) for paths in MEASUREMENTS[suite]]
        tasks = list(dict.fromkeys(row.task for row in tables[0]))
        print(
            "\n| | beside | latest | pairs | seeds | better | difference | p |"
            f" {' | '.join(tasks)} |"
        )
        print("| --- |" + " --- |" * (7 + len(tasks)))
        for condition, other in PAIRS[suite]:
            found = [pair_up(rows, CEILING, other) for rows in tables]
            pairs = [[scores[task, condition] for scores in found] for task in tasks]
            show(condition, other, pairs)


def show(condition: str, other: str, pairs: list[list[np.ndarray]]) -> None:
    """Print a row of the table: of the differences in each task's measurements, latest first."""
    rng = np.random.default_rng(0)
    scores = [by_seed(measurements) for measurements in pairs]
    difference = with_interval(scores, rng)
    every = np.concatenate([scores for measurements in pairs for scores in measurements])
    cells = [
        condition,
        other,
        with_interval([measurements[0] for measurements in pairs], np.random.default_rng(0)),
        f"{len(every)}",
        f"{sum(map(len, scores))}",
        f"{(every > 0).mean():.2f}",
        difference,
        f"{by_chance(scores, rng):.3f}",
        *(f"{task.mean():+.2f}" for task in scores),
    ]
    print(f"| {' | '.join(cells)} |")


def with_interval(scores: list[np.ndarray], rng: np.random.Generator) -> str:
    """The mean over tasks of each task's differences, with its interval."""
    low, high = interval(mean, scores, rng=rng)
    return f"{mean(scores):+.2f} [{low:+.2f}, {high:+.2f}]"


def read(*paths: Path) -> list[Row]:
    """The runs of these tables."""
    rows = []
    for path in paths:
        with path.open(newline="") as file:
            rows += [
                Row(r["task"], r["condition"], int(r["seed"]), float(r["true_return_mean"]), 0.0)
                for r in csv.DictReader(file)
            ]
    return rows


def by_seed(measurements: list[np.ndarray]) -> np.ndarray:
    """The mean of each seed's differences; each measurement has those of seeds 0, 1, ..."""
    seeds = range(max(map(len, measurements)))
    return np.array([np.mean([m[seed] for m in measurements if seed < len(m)]) for seed in seeds])


def by_chance(scores: list[np.ndarray], rng: np.random.Generator) -> float:
    """How often a mean so far from 0 comes about where either condition may do better with a seed.

    A permutation test: the signs of all seeds' differences are drawn anew.
    """
    drawn = mean([task * rng.choice([-1, 1], (FLIPS, len(task))) for task in scores])
    return float((np.abs(drawn) >= abs(mean(scores)) - 1e-12).mean())


if __name__ == "__main__":
    main()
