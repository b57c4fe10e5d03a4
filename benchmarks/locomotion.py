"""HalfCheetah, Hopper and Walker2d: 500 labels beside the same PPO on the true reward.

    python benchmarks/locomotion.py --out runs/locomotion --jobs 2

Runs one process per job, reuses runs that are finished, goes on with those that were stopped, and
writes `benchmarks/locomotion.csv`, one row per run.
"""

import argparse
import csv
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prefrl.run import Run

TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
CONDITIONS = {"labels500": ["--labels", "500"], "true": ["--true-reward"]}
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
    cells = [(task, name, seed) for seed in SEEDS for task in TASKS for name in CONDITIONS]
    with ThreadPoolExecutor(args.jobs) as pool:
        folders = list(pool.map(lambda cell: run_cell(args.out, *cell), cells))
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "condition", "seed", *FIELDS, "commit"])
        for cell, folder in sorted(zip(cells, folders, strict=True)):
            record = Run(folder).record
            values = [record["result"][field] for field in FIELDS]
            rounded = [round(v, 3) if isinstance(v, float) else v for v in values]
            writer.writerow([*cell, *rounded, (record["commit"] or "")[:10]])


def run_cell(out: Path, task: str, condition: str, seed: int) -> Path:
    """Train one run to its end, in a process of its own with one thread; give its folder."""
    folder = out / f"{task}-{condition}-seed{seed}"
    command = [sys.executable, "-m", "prefrl.cli"]
    if not (folder / "run.json").exists():
        command += ["train", task, "--seed", str(seed), "--steps", str(STEPS)]
        command += ["--out", str(folder), *CONDITIONS[condition]]
    elif Run(folder).record["result"] is None:
        command += ["resume", str(folder)]
    else:
        return folder
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--quiet"], check=True, env=environment)
    return folder


if __name__ == "__main__":
    main()
