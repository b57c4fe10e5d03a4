"""Draws docs/backflip.png from benchmarks/backflip.csv: `python benchmarks/label_curve.py`."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from prefrl.colours import BLUE, GREEN, GREY, ORANGE

ROOT = Path(__file__).parent.parent
PANELS = (("rotations", "backward turns in an episode"), ("landings", "of these, on the foot"))


def main() -> None:
    """Turns, and turns that end on the foot, against labels; one dot is one seed."""
    with (ROOT / "benchmarks" / "backflip.csv").open() as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, (measure, words) in zip(axes, PANELS, strict=True):
        draw(axis, rows, measure)
        axis.set(xlabel="labels", title=words, xscale="log", ylim=(0, None))
        ticks = sorted({int(row["labels"]) for row in rows if int(row["labels"])})
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].legend(*axes[0].get_legend_handles_labels(), loc="upper left", frameon=False)
    figure.savefig(ROOT / "docs" / "backflip.png", dpi=120)


def draw(axis: plt.Axes, rows: list[dict[str, str]], measure: str) -> None:
    """One panel."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        kind = row["condition"].rstrip("0123456789")
        values[kind][int(row["labels"])].append(float(row[measure]))
    for kind, words, colour in (
        ("labels", "labels by the formula", BLUE),
        ("land", "labels by examples/land.py", ORANGE),
    ):
        labels = sorted(values[kind])
        axis.plot(labels, [np.mean(values[kind][n]) for n in labels], color=colour, label=words)
        for n in labels:
            axis.plot([n] * len(values[kind][n]), values[kind][n], "o", color=colour, alpha=0.6)
    ceiling = values["true"][0]
    axis.axhline(float(np.mean(ceiling)), color=GREEN, ls="--", label="PPO on the formula itself")
    axis.axhspan(min(ceiling), max(ceiling), color=GREY, alpha=0.15)


if __name__ == "__main__":
    main()
