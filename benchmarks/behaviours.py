"""Behaviours that nobody wrote a reward for: the figures of docs/benchmarks.md.

    python benchmarks/behaviours.py backflip --out runs/behaviours --jobs 2

Trains what is missing of a suite, goes on with what was stopped, measures 20 episodes of each
final policy and writes `benchmarks/<suite>.csv`, one row per run.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cells import Cell, run_cells, short_commit, write_table

from prefrl.evaluation import evaluate
from prefrl.run import Run

ROOT = Path(__file__).parent.parent
FLIP, ONE_LEG = "prefrl/HopperBackflip-v0", "prefrl/HalfCheetahOneLeg-v0"
TRUE = ("--true-reward",)


def oracle(name: str) -> tuple[str, str]:
    """Arguments for one of the oracles in examples/."""
    return "--oracle", f"{ROOT / 'examples' / name}.py:score"


@dataclass(frozen=True)
class Suite:
    """Runs, and what is measured in them."""

    cells: Sequence[Cell]
    measures: Sequence[str]
    """Keys of the last `info`."""
    judged_in: str = ""
    """Environment to measure in, where the policy learned in another."""


def with_seeds(task: str, conditions: dict[str, tuple[str, ...]], seeds: range) -> list[Cell]:
    """One cell for each condition and seed."""
    return [Cell(task, name, s, options) for s in seeds for name, options in conditions.items()]


SUITES = {
    "backflip": Suite(
        with_seeds(
            FLIP,
            {f"labels{n}": ("--labels", str(n)) for n in (50, 100, 200, 400, 900)}
            | {"true": TRUE, "land400": ("--labels", "400", "--steps", "1000000", *oracle("land"))},
            range(3),
        ),
        ("rotations", "landings", "body_contact_share"),
    ),
    "one_leg": Suite(
        with_seeds(ONE_LEG, {"labels800": ("--labels", "800")}, range(3))
        + with_seeds("HalfCheetah-v5", {"plain": TRUE}, range(3))
        + with_seeds(ONE_LEG, {"true": TRUE}, range(1)),
        ("distance", "front_contact_share", "hind_contact_share", "body_contact_share"),
        judged_in=ONE_LEG,
    ),
    "examples": Suite(
        [
            Cell(task, name, 0, ("--labels", labels, "--steps", steps, *oracle(name)))
            for task, name, labels, steps in (
                ("Hopper-v5", "still", "200", "300000"),
                ("HalfCheetah-v5", "backward", "200", "400000"),
                ("Ant-v5", "turn", "300", "500000"),
                ("Walker2d-v5", "kneel", "300", "500000"),
            )
        ],
        (),
    ),
}


def main() -> None:
    """Run what is missing, then measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--out", type=Path, default=Path("runs/behaviours"))
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    suite = SUITES[args.suite]
    runs = run_cells(suite.cells, args.out, args.jobs)
    columns = ["labels", "steps", "minutes", "true_return", "oracle_return", *suite.measures]
    rows = [[*measure(run, suite), short_commit(run)] for run in runs]
    write_table(ROOT / "benchmarks" / f"{args.suite}.csv", suite.cells, [*columns, "commit"], rows)


def measure(run: Run, suite: Suite) -> list[object]:
    """What one row of the table holds."""
    result = run.record["result"]
    if suite.judged_in:
        run.config = replace(run.config, env=replace(run.config.env, id=suite.judged_in))
    summary = evaluate(run)
    oracle_return = summary.get("oracle_return", {}).get("mean", "")
    means = [summary["info"][key]["mean"] for key in suite.measures]
    minutes = result["wall_seconds"] / 60
    learned = [result["labels_answered"], result["steps"], minutes]
    return [*learned, summary["true_return"]["mean"], oracle_return, *means]


if __name__ == "__main__":
    main()
