"""The results folder of a suite: one row per run, curves, and what they were made with.

::

    OUT/suite.yaml     versions, and the configuration of each task and condition
    OUT/results.csv    one row per run
    OUT/curves.csv     the true return while training, in `POINTS` stretches of each run
    OUT/aggregate.csv  one row per task and condition, and one per condition over all tasks
    OUT/runs/          the run folders; what is in results.csv does not need them any more
"""

import csv
import glob
import io
import logging
import shutil
import sqlite3
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.bench.provenance import Provenance
from prefrl.bench.suites import RANDOM_ACTIONS, Cell, Suite, folder_of
from prefrl.errors import RunFailed, UserError
from prefrl.files import replace_text
from prefrl.lock import is_held
from prefrl.metrics import read_metrics
from prefrl.run import TRAINING_LOCK, Run

log = logging.getLogger(__name__)

POINTS = 40
"""Stretches into which a curve is divided."""


@dataclass(frozen=True)
class Row:
    """One run, as `results.csv` holds it; NaN where a number is missing."""

    task: str
    condition: str
    seed: int
    true_return_mean: float
    """Over the deterministic episodes after training."""
    true_return_std: float
    labels_answered: int = 0
    label_accuracy: float = float("nan")
    """Share of decided answers, but for ties, that name the clip with the higher true return."""
    equal_share: float = float("nan")
    """Share of answers that are `equal`."""
    skip_share: float = float("nan")
    """Share of answers that are `skip`."""
    learned_true_correlation: float = float("nan")
    steps: int = 0
    steps_per_second: float = float("nan")
    wall_seconds: float = float("nan")
    commit: str = ""
    failure: str = ""
    """Why it ended without a result; it is tried again."""

    @property
    def key(self) -> tuple[str, str, int]:
        """Which run it is."""
        return self.task, self.condition, self.seed


@dataclass(frozen=True)
class CurvePoint:
    """The mean true return while training, over one stretch of a run."""

    task: str
    condition: str
    seed: int
    step: int
    """Last step of the stretch."""
    true_return: float


class Results:
    """What a suite has brought so far.

    Args:
        folder: The results folder; made if there is none.

    Raises:
        UserError: Its files cannot be read, or it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder = folder
        try:
            self.rows = {row.key: row for row in _read(folder / "results.csv", Row)}
            self._curves = _read(folder / "curves.csv", CurvePoint)
            self._provenance = Provenance(folder)
        except OSError as error:
            raise UserError(f"cannot use the results folder '{folder}': {error.strerror}") from None
        except UserError:
            raise
        except (ValueError, TypeError, KeyError, csv.Error) as error:
            raise UserError(f"the results folder '{folder}' is damaged: {error}") from None

    @property
    def runs(self) -> Path:
        """Folder of the run folders."""
        return self.folder / "runs"

    @property
    def curves(self) -> Sequence[CurvePoint]:
        """All curves, point by point."""
        return self._curves

    def claim(self, suite: Suite) -> None:
        """Note what the suite is to be run with, unless other results lie there already.

        Raises:
            UserError: They were made with other versions, configurations or files, or one that an
                edited file decides is still being trained.
        """
        self._provenance.refuse(
            suite,
            tried={key[:2] for key in self.rows},
            finished={key[:2] for key, row in self.rows.items() if not row.failure},
        )
        for task, condition, file in self._provenance.edited(suite):
            for unfinished in self._run_folders(task, condition):
                if is_held(unfinished / TRAINING_LOCK):  # left over from a suite that was killed
                    raise UserError(
                        f"'{unfinished}' is still being trained with '{file}' as it was before an "
                        f"edit: wait for its end, or give another --out"
                    )
                log.warning("'%s' is trained anew, because '%s' was edited", unfinished, file)
                shutil.rmtree(unfinished)
        other = [t for t in suite.tasks if self._provenance.measured_elsewhere(suite, t)]
        for task in other:
            self.rows.pop((task, RANDOM_ACTIONS, 0), None)
        if other:
            self._write()  # before it is noted that those in the suite's environment count
        self._provenance.note(suite)

    def _run_folders(self, task: str, condition: str) -> list[Path]:
        """The run folders that there are, one for each seed begun."""
        begin = folder_of(task, condition)
        found = self.runs.glob(f"{glob.escape(begin)}*")
        return [path for path in found if path.name.removeprefix(begin).isdigit()]

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells that have no row yet, or that of a failure."""
        return [c for c in cells if c.key not in self.rows or self.rows[c.key].failure]

    def of(self, suite: Suite) -> list[Row]:
        """The finished rows of that suite, and those of random actions, in the suite's order."""
        tasks, conditions = list(suite.tasks), [*suite.conditions, RANDOM_ACTIONS]
        found = [
            row
            for row in self.rows.values()
            if row.task in tasks and row.condition in conditions and not row.failure
        ]
        return sorted(
            found, key=lambda r: (tasks.index(r.task), conditions.index(r.condition), r.seed)
        )

    def add(self, cell: Cell, run: Run) -> Row:
        """Write down a finished run.

        Raises:
            RunFailed: Its return is not a number, it was trained with other versions or another
                file of the user's, or its labels or metrics cannot be read.
        """
        self._provenance.check_run(cell.task, cell.condition, run)
        if run.record["result"]["true_return_mean"] is None:
            raise RunFailed(
                f"it diverged: the final policy's true return is not a number, and would be none "
                f"again ('{run.path}')"
            )
        result: dict[str, Any] = {
            key: float("nan") if value is None else value
            for key, value in run.record["result"].items()
        }
        if run.record.get("inexact_resumes"):
            log.warning("'%s' differs from a run that was never stopped", run.path)
        try:
            shares, points = answer_shares(run), curve(run)
        except (UserError, sqlite3.DatabaseError) as error:
            raise RunFailed(f"its labels or metrics cannot be read: {error}") from error
        row = Row(
            *cell.key,
            true_return_mean=result["true_return_mean"],
            true_return_std=result["true_return_std"],
            labels_answered=result["labels_answered"],
            **shares,
            learned_true_correlation=result["learned_true_correlation"],
            steps=result["steps"],
            steps_per_second=result["steps_per_second"],
            wall_seconds=result["wall_seconds"],
            commit=(run.record["commit"] or "")[:10],
        )
        self._curves = [p for p in self._curves if (p.task, p.condition, p.seed) != cell.key]
        self._curves += [CurvePoint(*cell.key, step, value) for step, value in points]
        self.put(row)
        return row

    def fail(self, cell: Cell, sentence: str) -> None:
        """Write down that a run ended without a result."""
        self.put(Row(*cell.key, float("nan"), float("nan"), failure=sentence))

    def put(self, row: Row) -> None:
        """Write down a row."""
        self.rows[row.key] = row
        self._write()

    def _write(self) -> None:
        self._curves.sort(key=lambda p: (p.task, p.condition, p.seed, p.step))
        write_table(self.folder / "curves.csv", [asdict(point) for point in self._curves])
        ordered = [self.rows[key] for key in sorted(self.rows)]
        write_table(self.folder / "results.csv", [asdict(row) for row in ordered])


def make_folder(folder: Path) -> None:
    """Make a results folder, if there is none.

    Raises:
        UserError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the results folder '{folder}': {error.strerror}") from None


def answer_shares(run: Run) -> dict[str, Any]:
    """How a run's labeller answered: accuracy, and the shares of equal and skip."""
    if run.config.run.true_reward or not run.label_file.exists():
        return {}
    with run.open_labels(read_only=True) as store:
        labels = store.labels()
        right = []
        for label in labels:
            if label.answer in ("left", "right"):
                clips = (store.clip(label.query.left_clip), store.clip(label.query.right_clip))
                returns = [float(clip.true_rewards.sum()) for clip in clips]
                if returns[0] != returns[1]:
                    right.append((returns[0] > returns[1]) == (label.answer == "left"))
    answers = [label.answer for label in labels]
    return {
        "label_accuracy": float(np.mean(right)) if right else float("nan"),
        "equal_share": answers.count("equal") / len(answers),
        "skip_share": answers.count("skip") / len(answers),
    }


def curve(run: Run) -> list[tuple[int, float]]:
    """A run's true return while training, by the last step of each of `POINTS` stretches."""
    found: dict[int, list[float]] = {}
    rows = read_metrics(run.path / "metrics.csv")
    stretch = run.config.run.steps / POINTS
    for row in rows:
        if (value := row["rollout/true_return"]) == value:
            found.setdefault(int(np.ceil(row["time/step"] / stretch)), []).append(value)

    def last_step(place: int) -> int:
        """Of a stretch; that beyond the run's steps ends with the run, whose last rollout it is."""
        return round(place * stretch if place <= POINTS else rows[-1]["time/step"])

    return [(last_step(place), float(np.mean(v))) for place, v in sorted(found.items())]


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of like keys as CSV, floats to six figures, NaN as an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _text(value) for key, value in row.items()} for row in rows)
    replace_text(path, text.getvalue())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return str(value)


def _read(path: Path, kind: type) -> list[Any]:
    """Rows of that dataclass from the CSV at `path`; none if there is no file."""
    if not path.exists():
        return []
    types = typing.get_type_hints(kind)

    def value(key: str, text: str) -> Any:
        return float("nan") if types[key] is float and not text else types[key](text)

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if any(None in row for row in rows):
        raise ValueError(f"{path.name} has rows that are longer than its header")
    if unknown := sorted(set(rows[0] if rows else ()) - set(types)):
        raise ValueError(f"{path.name} has a column '{unknown[0]}'")
    return [kind(**{k: value(k, v) for k, v in row.items()}) for row in rows]
