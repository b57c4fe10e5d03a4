"""The pictures of a suite, as svg and png, in colours that colour-blind people tell apart."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.bench.anchors import Anchor
from prefrl.bench.results import CurvePoint, Row
from prefrl.bench.stats import interval, mean, profile
from prefrl.bench.suites import ALL, RANDOM_ACTIONS
from prefrl.bench.summary import Summary, normalise, returns_of
from prefrl.colours import COLOURS, GREY

STYLES = ["-", "--"]
MARKERS = "os^Dv<>P*X"


Look = Mapping[str, Any]
"""How a line is drawn: matplotlib's `color`, `ls` and `marker`."""


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each name; no two of the first sixteen are alike."""
    return {
        name: {
            "color": COLOURS[i % len(COLOURS)],
            "ls": STYLES[i // len(COLOURS) % len(STYLES)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        for i, name in enumerate(names)
    }


def draw(
    folder: Path,
    rows: Sequence[Row],
    curves: Sequence[CurvePoint],
    summaries: Sequence[Summary],
    *,
    title: str,
    reference: str = "",
    baseline: str = "",
    anchors: Sequence[Anchor] = (),
) -> list[Path]:
    """Draw what the results give pictures for: `curves`, `labels`, `conditions`, `profile`.

    Args:
        folder: Where the files go.
        rows, curves: Results, in the order in which tasks and conditions are to appear.
        summaries: Of the rows.
        title: Above each picture.
        reference, baseline: Conditions, as in the suite.
        anchors: Published figures, drawn where task, labels and steps agree.
    """
    import matplotlib

    names = dict.fromkeys(row.condition for row in rows if row.condition != RANDOM_ACTIONS)
    look = looks(list(names))
    pictures = {"curves": lambda: draw_curves(curves, summaries, look, anchors)}
    scored = [s for s in summaries if not math.isnan(s.normalised.value)]
    if scored:
        pictures["conditions"] = lambda: draw_conditions(scored, look, reference, baseline)
        pictures["profile"] = lambda: draw_profile(rows, look, reference)
    if _several_budgets(scored):  # else there are only points
        pictures["labels"] = lambda: draw_labels(scored, reference)
    paths = []
    with matplotlib.rc_context({"text.parse_math": False}):  # a "$" in a name is a "$"
        for name, make in pictures.items():
            figure = make()
            width = figure.get_size_inches()[0]
            figure.suptitle(textwrap.fill(title, int(9 * width)))
            for ending in ("svg", "png"):
                paths.append(folder / f"{name}.{ending}")
                dated = {"Date": None} if ending == "svg" else None
                figure.savefig(paths[-1], dpi=110, metadata=dated)
    return paths


def _canvas(width: float, height: float, **grid: Any) -> tuple[Any, Any]:
    """A figure of its own, which no window shows, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**grid)


def draw_curves(
    curves: Sequence[CurvePoint],
    summaries: Sequence[Summary],
    look: Mapping[str, Look],
    anchors: Sequence[Anchor] = (),
) -> Any:
    """True return while training: mean over runs, and its 95 % bootstrap interval as a band.

    More than four conditions have no bands, which would hide one another.
    """
    from matplotlib.ticker import EngFormatter

    tasks = list(dict.fromkeys(s.task for s in summaries if s.task != ALL))
    across = min(4, len(tasks))
    down = math.ceil(len(tasks) / across)
    figure, axes = _canvas(4.2 * across + 1, 3.4 * down + 0.9, nrows=down, ncols=across)
    flat = np.atleast_1d(axes).flat
    for axis in list(flat)[len(tasks) :]:
        axis.set_visible(False)
    rng = np.random.default_rng(0)
    for task, axis in zip(tasks, np.atleast_1d(axes).flat, strict=False):
        for condition, style in look.items():
            steps, low, middle, high = _band(curves, task, condition, rng)
            axis.plot(steps, middle, label=condition, lw=1.6, **_line(style))
            if len(look) <= 4:
                axis.fill_between(steps, low, high, color=style["color"], alpha=0.18, lw=0)
        settings = {(round(s.labels), s.steps) for s in summaries if s.task == task}
        for anchor in anchors:
            if anchor.task == task and any(anchor.agrees(*setting) for setting in settings):
                axis.axhline(anchor.mean, color="#444444", lw=1, ls=":")
                source = anchor.source.partition(" ")[0]
                text = f"{anchor.method}, {source}: {anchor.mean:,.0f}"
                axis.annotate(
                    text,
                    (0.99, anchor.mean),
                    xycoords=("axes fraction", "data"),
                    ha="right",
                    va="bottom",
                    fontsize=7,
                    color="#444444",
                )
        axis.set_title(task)
        axis.set_xlabel("environment steps")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(axes).flat[0].set_ylabel("true return while training")
    handles, names = np.atleast_1d(axes).flat[0].get_legend_handles_labels()
    longest = max(len(name) for name in names)
    columns = max(1, int(figure.get_size_inches()[0] / (0.6 + 0.09 * longest)))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _several_budgets(summaries: Sequence[Summary]) -> bool:
    """Whether a task's conditions differ in their labels by more than a few left unasked."""
    labels: dict[str, list[float]] = {}
    for summary in summaries:
        if summary.labels:
            labels.setdefault(summary.task, []).append(summary.labels)
    return any(max(counts) > 1.1 * min(counts) for counts in labels.values())


def draw_labels(summaries: Sequence[Summary], reference: str) -> Any:
    """Normalised return against labels: each task thin, all together thick with the interval."""
    figure, axis = _canvas(7, 4.5)
    learned = [s for s in summaries if s.condition != reference and s.labels]
    tasks = [t for t in dict.fromkeys(s.task for s in learned) if t != ALL]
    for task, style in looks(tasks).items():
        points = sorted((s.labels, s.normalised.value) for s in learned if s.task == task)
        axis.plot(*zip(*points, strict=True), label=task, lw=1, ms=4, **style)
    together = sorted((s for s in learned if s.task == ALL), key=lambda s: s.labels)
    axis.errorbar(
        [s.labels for s in together],
        [s.normalised.value for s in together],
        yerr=_errors(together),
        label="all tasks (IQM, 95 %)",
        color="black",
        lw=2.5,
        capsize=4,
    )
    axis.axhline(1, color=GREY, lw=1, ls=":", label=reference)
    axis.set_xlabel("labels")
    axis.set_ylabel("normalised true return")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_conditions(
    summaries: Sequence[Summary],
    look: Mapping[str, Look],
    reference: str,
    baseline: str,
) -> Any:
    """A bar for each condition, best first, with its interval; dots are single tasks.

    Beside it, where there is a baseline, the probability that a run beats one of the baseline's,
    and how much more it gets than the one of its own seed.
    """
    tasks = [t for t in dict.fromkeys(s.task for s in summaries) if t != ALL]
    whole = [s for s in summaries if s.task == (ALL if len(tasks) > 1 else tasks[0])]
    whole.sort(key=lambda s: s.normalised.value)
    beside = [
        (name, even, words)
        for name, even, words in (
            ("improvement", 0.5, f"probability of improvement over {baseline} (95 %)"),
            ("difference", 0.0, f"normalised, less {baseline} of the same seed (95 %)"),
        )
        if any(not math.isnan(getattr(s, name).value) for s in whole)
    ]
    width, height = 6 + 4 * len(beside), 1.6 + 0.42 * len(whole)
    figure, axes = _canvas(width, height, ncols=1 + len(beside), sharey=True, squeeze=False)
    places = np.arange(len(whole))
    bars = axes[0, 0]
    colours = [look[s.condition]["color"] for s in whole]
    bars.barh(places, [s.normalised.value for s in whole], color=colours, alpha=0.55)
    bars.errorbar(
        [s.normalised.value for s in whole],
        places,
        xerr=_errors(whole),
        fmt="none",
        ecolor="black",
        capsize=3,
    )
    for i, task in enumerate(tasks):
        values = {s.condition: s.normalised.value for s in summaries if s.task == task}
        found = [(values[s.condition], p) for p, s in enumerate(whole) if s.condition in values]
        if not found:
            continue
        bars.scatter(
            *zip(*found, strict=True),
            s=22,
            color="black",
            marker=MARKERS[i % len(MARKERS)],
            label=task,
            zorder=3,
        )
    bars.set_yticks(places, [s.condition for s in whole])
    bars.set_xlabel(f"normalised true return (IQM, 95 %; 1 is {reference})")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    for axis, (name, even, words) in zip(axes[0, 1:], beside, strict=True):
        shown = [(p, s) for p, s in enumerate(whole) if not math.isnan(getattr(s, name).value)]
        axis.errorbar(
            [getattr(s, name).value for _, s in shown],
            [p for p, _ in shown],
            xerr=_errors([s for _, s in shown], name),
            fmt="o",
            color="black",
            capsize=3,
        )
        axis.axvline(even, color=GREY, lw=1, ls=":")
        axis.set_xlabel(words)
        if name == "improvement":
            axis.set_xlim(-0.02, 1.02)  # whole dots at both ends
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def draw_profile(rows: Sequence[Row], look: Mapping[str, Look], reference: str) -> Any:
    """Performance profile: the share of runs above each normalised return, with its interval."""
    normalised = normalise(returns_of(rows), reference)
    figure, axis = _canvas(7, 4.5)
    top = max(float(values.max()) for values in normalised.values())
    thresholds = np.linspace(0, min(2.0, max(1.1, top)), 120)  # one outlier is not the picture
    rng = np.random.default_rng(0)
    for condition, style in look.items():
        scores = [values for (_, name), values in normalised.items() if name == condition]
        if not scores:
            continue
        low, high = interval(lambda s: profile(s, thresholds), scores, repetitions=1000, rng=rng)
        axis.plot(thresholds, profile(scores, thresholds), label=condition, lw=1.6, **_line(style))
        axis.fill_between(thresholds, low, high, color=style["color"], alpha=0.12, lw=0)
    axis.axvline(1, color=GREY, lw=1, ls=":")
    axis.set_xlabel(f"normalised true return (1 is {reference})")
    axis.set_ylabel("share of runs above it")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _line(look: Look) -> Look:
    return {key: value for key, value in look.items() if key != "marker"}


def _errors(summaries: Sequence[Summary], name: str = "normalised") -> np.ndarray:
    """`(2, n)` lengths of the intervals' two halves."""
    found = [getattr(s, name) for s in summaries]
    return np.maximum(0, [[e.value - e.low for e in found], [e.high - e.value for e in found]])


def _band(
    curves: Sequence[CurvePoint], task: str, condition: str, rng: np.random.Generator
) -> tuple[list[int], list[float], list[float], list[float]]:
    """Steps, and the mean over runs there between the ends of its interval."""
    at: dict[int, list[float]] = {}
    for point in curves:
        if (point.task, point.condition) == (task, condition):
            at.setdefault(point.step, []).append(point.true_return)
    steps = sorted(at)
    low, middle, high = [], [], []
    for step in steps:
        values = np.array(at[step])
        ends = interval(mean, [values], repetitions=1000, rng=rng)
        low.append(float(ends[0]))
        middle.append(float(values.mean()))
        high.append(float(ends[1]))
    return steps, low, middle, high
