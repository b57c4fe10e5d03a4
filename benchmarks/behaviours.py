"""Behaviours that nobody wrote a reward for: the figures of docs/behaviours.md.

    python benchmarks/behaviours.py backflip --out runs/behaviours --jobs 2

Trains what is missing of a suite, goes on with what was stopped, measures 20 episodes of each
final policy and writes `benchmarks/<suite>.csv`, one row per run.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prefrl.bench.results import write_table
from prefrl.bench.runner import run_cells
from prefrl.bench.suites import Cell, Overrides
from prefrl.configfile import load_config
from prefrl.evaluation import evaluate
from prefrl.run import Run

ROOT = Path(__file__).parent.parent
FLIP, ONE_LEG = "prefrl/HopperBackflip-v0", "prefrl/HalfCheetahOneLeg-v0"
TRUE: Overrides = {"run": {"true_reward": True}}


def by_oracle(name: str, labels: int, steps: int) -> Overrides:
    """Labels by one of the oracles in examples/."""
    oracle = f"{ROOT / 'examples' / name}.py:score"
    return {"labels": {"oracle": oracle, "budget": labels}, "run": {"steps": steps}}


@dataclass(frozen=True)
class Suite:
    """Runs, and what is measured in them."""

    cells: Sequence[Cell]
    measures: Sequence[str]
    """Keys of the last `info`."""
    judged_in: str = ""
    """Environment to measure in, where the policy learned in another."""


def with_seeds(task: str, conditions: dict[str, Overrides], seeds: range) -> list[Cell]:
    """One cell for each condition and seed."""
    cells = []
    for seed in seeds:
        for name, overrides in conditions.items():
            run = {**overrides.get("run", {}), "seed": seed}
            cells.append(Cell(task, name, seed, load_config(task, {**overrides, "run": run})))
    return cells


SUITES = {
    "backflip": Suite(
        with_seeds(
            FLIP,
            {f"labels{n}": {"labels": {"budget": n}} for n in (50, 100, 200, 400, 900)}
            | {"true": TRUE, "land400": by_oracle("land", 400, 1_000_000)},
            range(5),
        ),
        ("rotations", "landings", "body_contact_share"),
    ),
    "one_leg": Suite(
        with_seeds(ONE_LEG, {"labels800": {"labels": {"budget": 800}}, "true": TRUE}, range(5))
        + with_seeds("HalfCheetah-v5", {"plain": TRUE}, range(3)),
        ("distance", "front_contact_share", "hind_contact_share", "body_contact_share"),
        judged_in=ONE_LEG,
    ),
    "examples": Suite(
        [
            cell
            for task, name, labels, steps in (
                ("Hopper-v5", "still", 200, 300_000),
                ("HalfCheetah-v5", "backward", 200, 400_000),
                ("Ant-v5", "turn", 300, 500_000),
                ("Walker2d-v5", "kneel", 300, 500_000),
            )
            for cell in with_seeds(task, {name: by_oracle(name, labels, steps)}, range(3))
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
    rows = []
    for news in run_cells(suite.cells, args.out, args.jobs):
        if news and news.failure:
            raise SystemExit(f"{news.cell.folder}: {news.failure}")
        if news and news.run:
            print(f"{news.cell.folder} is trained")
            rows.append(measure(news.cell, news.run, suite))
    rows.sort(key=lambda row: (row["task"], row["condition"], row["seed"]))
    write_table(ROOT / "benchmarks" / f"{args.suite}.csv", rows)


def measure(cell: Cell, run: Run, suite: Suite) -> dict[str, object]:
    """One row of the table."""
    result, commit = run.record["result"], run.record["commit"] or ""
    if suite.judged_in:
        run.config = replace(run.config, env=replace(run.config.env, id=suite.judged_in))
    summary = evaluate(run)
    return {
        "task": cell.task,
        "condition": cell.condition,
        "seed": cell.seed,
        "labels": result["labels_answered"],
        "steps": result["steps"],
        "minutes": result["wall_seconds"] / 60,
        "true_return": summary["true_return"]["mean"],
        "oracle_return": summary.get("oracle_return", {}).get("mean", ""),
        **{key: summary["info"][key]["mean"] for key in suite.measures},
        "commit": commit[:10],
    }


if __name__ == "__main__":
    main()
