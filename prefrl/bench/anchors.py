"""Published figures, to be drawn where task, labels and steps agree."""

import csv
from dataclasses import dataclass
from pathlib import Path

from prefrl.errors import UserError


@dataclass(frozen=True)
class Anchor:
    """A published figure to stand beside."""

    task: str
    method: str
    labels: int
    """-1: not said."""
    steps: int
    """0: not said."""
    mean: float
    deviation: float
    source: str

    def agrees(self, labels: int, steps: int) -> bool:
        """Whether a run with so many labels and steps is to be compared with it."""
        return self.labels == labels and abs(self.steps - steps) <= 0.02 * steps


def read_anchors(path: Path) -> list[Anchor]:
    """The published figures in a CSV such as `benchmarks/anchors.csv`; rows without one left out.

    Raises:
        UserError: It cannot be read.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
            if any(None in row.values() for row in rows):
                raise ValueError("a row has fewer cells than the first")
            return [
                Anchor(
                    row["task"],
                    row["method"],
                    int(row["labels"] or -1),
                    int(row["env_steps"] or 0),
                    float(row["return_mean"]),
                    float(row["return_std"] or "nan"),
                    row["source"],
                )
                for row in rows
                if row["return_mean"]
            ]
    except KeyError as error:
        raise UserError(f"published figures in '{path}': there is no column {error}") from None
    except (OSError, UnicodeDecodeError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"cannot read published figures from '{path}': {error}") from None
