"""HalfCheetah, Hopper and Walker2d: 500 labels beside the same PPO on the true reward.

    python benchmarks/locomotion.py --out runs/locomotion --jobs 2

Runs one process per job, reuses runs that are finished, goes on with those that were stopped, and
writes `benchmarks/locomotion.csv`, one row per run.
"""

import argparse
from pathlib import Path

from cells import Cell, run_cells, short_commit, write_table

TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
CONDITIONS = {"labels500": ("--labels", "500"), "true": ("--true-reward",)}
SEEDS = range(3)
STEPS = 1_000_000
FIELDS = (
    "true_return_mean",
    "true_return_std",
    "learned_true_correlation",
    "labels_answered",
    "steps",
    "steps_per_second",
    "wall_seconds",
)


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/locomotion"))
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    # Both conditions of a seed run side by side, so that their speeds can be compared.
    cells = [
        Cell(task, name, seed, ("--steps", str(STEPS), *options))
        for seed in SEEDS
        for task in TASKS
        for name, options in CONDITIONS.items()
    ]
    runs = run_cells(cells, args.out, args.jobs)
    rows = [[*(run.record["result"][field] for field in FIELDS), short_commit(run)] for run in runs]
    write_table(Path(__file__).with_suffix(".csv"), cells, [*FIELDS, "commit"], rows)


if __name__ == "__main__":
    main()
