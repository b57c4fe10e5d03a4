"""A scripted person teaches through the window: the figures of docs/behaviours.md.

    python benchmarks/taught.py --seeds 3 --jobs 2

They judge by the true return, err in 5 % of the pairs, and press real keys at the real window, each
on a desktop without a screen. Trains what is missing, goes on with what was stopped, measures 20
episodes of each final policy and writes `benchmarks/taught.csv`, one row per run.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from behaviours import FLIP, ROOT, SUITES, Suite, measure
from desktop import READ, Desktop, ScriptedPerson, missing
from measuring import PREFRL

from prefrl.bench.results import write_table
from prefrl.bench.suites import Cell, folder_of
from prefrl.run import Run


@dataclass(frozen=True)
class Lesson:
    """What is taught, and how."""

    task: str
    labels: int
    steps: int
    pace: float = READ
    """Seconds from answer to answer at least."""
    wait: bool = True
    """Whether the training waits for labels."""
    measures: Sequence[str] = ()
    """Keys of the last `info` that are measured, too."""


TURNS = SUITES["backflip"].measures

LESSONS = {
    "at-once": Lesson("HalfCheetah-v5", 300, 1_000_000),
    "3-seconds": Lesson(FLIP, 100, 500_000, pace=3, measures=TURNS),
    "never-waits": Lesson(FLIP, 200, 1_500_000, pace=3, wait=False, measures=TURNS),
}

COLUMNS = ("task", "condition", "seed", "labels", "probes", "steps", "minutes", "true_return")
COLUMNS += (*TURNS, "commit")


def main() -> None:
    """Teach what is missing, then measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="persons who teach at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/taught"))
    args = parser.parse_args()
    if missing():
        sys.exit(f"install {', '.join(missing())} first")
    args.out.mkdir(parents=True, exist_ok=True)
    cells = [(name, seed) for seed in range(args.seeds) for name in LESSONS]
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = list(pool.map(lambda cell: teach(*cell, args.out), cells))
    rows = [row(name, seed, run) for (name, seed), run in zip(cells, runs, strict=True)]
    rows.sort(key=lambda line: (line["task"], line["condition"], line["seed"]))
    write_table(ROOT / "benchmarks" / "taught.csv", rows)


def teach(name: str, seed: int, out: Path) -> Run:
    """Train one run in a folder of its own in `out`, while a person answers at its window."""
    lesson = LESSONS[name]
    folder = out / f"{folder_of(lesson.task, name)}{seed}"
    if folder.exists():
        command = ["resume", str(folder)]
    else:
        command = ["train", lesson.task, "--labeller", "human", "--labels", str(lesson.labels)]
        command += ["--steps", str(lesson.steps), "--seed", str(seed), "--out", str(folder)]
        command += ["--wait-for-labels"] if lesson.wait else []
    with Desktop() as desktop:
        training = subprocess.Popen([*PREFRL, *command, "--quiet"], env=desktop.environment)
        person = ScriptedPerson(desktop, folder / "labels.db", mistakes=0.05, seed=seed)
        person.label(
            10**6, pause=lesson.pace, done=lambda: training.poll() is not None, patience=600
        )
        if training.wait():
            sys.exit(f"{folder} was not trained to its end")
        person.close()
        desktop.key("Escape")
    print(f"{folder} is trained", flush=True)
    return Run(folder)


def row(name: str, seed: int, run: Run) -> dict[str, object]:
    """One row of the table; what only the hopper has is empty for the others."""
    lesson, store = LESSONS[name], run.labels
    probes = len(store.labels(probes=True))
    store.close()
    cell = Cell(lesson.task, name, seed, run.config)
    measured = measure(cell, run, Suite([], lesson.measures))
    return {key: {**measured, "probes": probes}.get(key, "") for key in COLUMNS}


if __name__ == "__main__":
    main()
