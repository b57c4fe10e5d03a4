"""The metrics of a run: their names and meaning, `metrics.csv`, TensorBoard.

`METRICS` is the one list of keys; `docs/metrics.md` explains each and a test holds the two
together. A key that ends in `/<member>` stands for one column per member of the ensemble.
"""

import csv
import threading
from pathlib import Path

import numpy as np

from prefrl.clock import STAGES
from prefrl.errors import UserError

METRICS = (
    "time/step",
    "time/seconds",
    "time/steps_per_second",
    *(f"time/{stage}" for stage in STAGES),
    "rollout/true_return",
    "rollout/learned_return",
    "rollout/true_correlation",
    "rollout/entropy",
    "rollout/approx_kl",
    "rollout/explained_variance",
    "reward/training_loss/<member>",
    "reward/validation_loss/<member>",
    "reward/validation_accuracy/<member>",
    "reward/l2/<member>",
    "reward/disagreement",
    "query/asked",
    "query/clip_age",
    "label/answered",
    "label/equal",
)


TAIL = 4096
"""Bytes that are read at the end of a `metrics.csv` at least to find its last row."""


def in_figures(value: float) -> str:
    """A return for people to read: whole where it is large, else in three figures."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def columns(members: int) -> list[str]:
    """Columns of `metrics.csv` for an ensemble of that many members (0: none)."""
    expanded = []
    for key in METRICS:
        if key.endswith("/<member>"):
            expanded += [key.replace("<member>", str(m)) for m in range(members)]
        else:
            expanded.append(key)
    return expanded


class MetricsLog:
    """Writes one row per rollout to `metrics.csv`, and the same to TensorBoard in `tb/`.

    Args:
        folder: The run's folder.
        members: Members of the ensemble.
        until_step: When a run is resumed: rows after this step are dropped first, because the
            run comes by them again.
    """

    def __init__(self, folder: Path, members: int, until_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._columns = columns(members)
        path = folder / "metrics.csv"
        kept = [row for row in read_metrics(path) if row["time/step"] <= until_step]
        part = path.with_suffix(".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows({k: _text(v) for k, v in row.items()} for row in kept)
        part.replace(path)
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, self._columns)
        self._board = SummaryWriter(folder / "tb", purge_step=until_step + 1)
        self._hook, threading.excepthook = threading.excepthook, self._pass_over_disk

    def write(self, values: dict[str, float]) -> None:
        """Append a row; keys that are missing stay empty."""
        self._writer.writerow({k: _text(values[k]) for k in self._columns if k in values})
        self._file.flush()
        step = int(values["time/step"])
        for key, value in values.items():
            if value == value:  # TensorBoard draws no NaN
                self._board.add_scalar(key, value, step)

    def close(self) -> None:
        """Flush and close both."""
        try:
            self._file.close()
            self._board.close()
        finally:
            threading.excepthook = self._hook

    def _pass_over_disk(self, args: threading.ExceptHookArgs) -> None:
        """Say nothing of what TensorBoard's thread could not write: `write` raises it again."""
        boards = type(args.thread).__module__.startswith("tensorboard.")
        if not (boards and issubclass(args.exc_type, OSError)):
            self._hook(args)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a `metrics.csv`, empty cells as NaN; none if there is no file.

    A last row that was cut short by a kill is left out.

    Raises:
        UserError: It is damaged.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = [
                {key: float(value) if value else float("nan") for key, value in row.items()}
                for row in reader
                if None not in row.values()
            ]
    except (ValueError, TypeError):
        raise UserError(f"'{path}' is damaged: it holds no numbers") from None
    if rows and METRICS[0] not in rows[0]:
        raise UserError(f"'{path}' is damaged: it has no column '{METRICS[0]}'")
    return rows


def read_last(path: Path) -> dict[str, float]:
    """The last whole row of a `metrics.csv` without reading all of it; empty if there is none."""
    try:
        with path.open("rb") as file:
            header = file.readline()
            begin = len(header)
            # What surely holds a whole row: a number takes less than two names of columns do.
            tail = max(TAIL, 4 * begin)
            start = max(begin, file.seek(0, 2) - tail)
            file.seek(start)
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    whole = lines[1:-1] if start > begin else lines[:-1]  # the ends may be cut
    if not whole:
        return {}
    values = zip(_cells(header), _cells(whole[-1]), strict=True)
    return {key: float(value) if value else float("nan") for key, value in values}


def _cells(line: bytes) -> list[str]:
    return line.decode().strip().split(",")


def _text(value: float) -> str:
    if value != value:
        return ""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two `(n,)` arrays, NaN where either does not vary."""
    if len(a) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
