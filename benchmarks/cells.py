"""Runs the cells of a table, one process each, and writes the table.

What is finished is reused, what was stopped goes on.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from prefrl.run import Run


@dataclass(frozen=True)
class Cell:
    """One run of a table."""

    task: str
    condition: str
    seed: int
    options: tuple[str, ...] = ()
    """More arguments of `prefrl train`."""

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        return f"{self.task.replace('/', '-')}-{self.condition}-seed{self.seed}"


def run_cells(cells: Sequence[Cell], out: Path, jobs: int) -> list[Run]:
    """Train each cell to its end; `jobs` at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda cell: run_cell(cell, out / cell.folder), cells))


def run_cell(cell: Cell, folder: Path) -> Run:
    """Train one cell to its end, in a process of its own with one thread."""
    command = [sys.executable, "-m", "prefrl.cli"]
    if not (folder / "run.json").exists():
        command += ["train", cell.task, "--seed", str(cell.seed)]
        command += ["--out", str(folder), *cell.options]
    elif Run(folder).record["result"] is None:
        command += ["resume", str(folder)]
    else:
        return Run(folder)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--quiet"], check=True, env=environment)
    return Run(folder)


def write_table(
    path: Path, cells: Sequence[Cell], columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Write one row per cell as CSV, in order: task, condition and seed, then `columns`."""
    names = [(cell.task, cell.condition, cell.seed) for cell in cells]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "condition", "seed", *columns])
        for name, row in sorted(zip(names, rows, strict=True)):
            rounded = [round(v, 3) if isinstance(v, float) else v for v in row]
            writer.writerow([*name, *rounded])


def short_commit(run: Run) -> str:
    """First digits of the commit that a run was started from."""
    return (run.record["commit"] or "")[:10]
