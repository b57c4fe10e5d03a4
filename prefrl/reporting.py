"""The report of a run: one picture of what was learned, from what, and where the time went."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.clock import STAGES
from prefrl.colours import BLUE, COLOURS, GREEN, GREY, ORANGE
from prefrl.errors import UserError
from prefrl.files import replace_bytes
from prefrl.labels.answers import ANSWERS, turned
from prefrl.labels.desk import consistency
from prefrl.metrics import in_figures, read_metrics
from prefrl.run import Run

STEPS = "environment steps"
ENDINGS = (".png", ".svg", ".pdf")


def report(run: str | Path | Run, out: str | Path | None = None) -> Path:
    """Draw the report of a finished run or one under way; give its path.

    Args:
        run: The run or its folder.
        out: The file, a .png, .svg or .pdf; `report.png` in the run folder when None.

    Raises:
        UserError: There is no such run, it has not finished its first rollout, or the file cannot
            be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    run = run if isinstance(run, Run) else Run(run)
    path = Path(out) if out else run.path / "report.png"
    if path.suffix not in ENDINGS:
        raise UserError(f"cannot write '{path}': a report's name must end in .png, .svg or .pdf")
    rows = read_metrics(run.path / "metrics.csv")
    if not rows:
        raise UserError(f"'{run.path}' has no metrics yet: its first rollout is not finished")
    data = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    panels, rows_of = [_returns, _time], 1
    if not run.config.run.true_reward:
        panels, rows_of = [_returns, _accuracy, _loss, _disagreement, _labels, _time], 2
        data["label/answered"] -= _taken_over(run)
    columns = len(panels) // rows_of
    figure = Figure(figsize=(5 * columns, 4 * rows_of), layout="constrained")
    axes = figure.subplots(rows_of, columns)
    for axis, draw in zip(axes.flat, panels, strict=True):
        draw(axis, data)
        if draw is _labels and run.label_file.exists():
            axis.set_title(f"Labels\n{_labelling(run)}", fontsize="medium")
        axis.spines[["top", "right"]].set_visible(False)
        if axis.get_xlabel().startswith(STEPS):
            axis.xaxis.set_major_locator(MaxNLocator(6))
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.suptitle(_title(run))
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=100)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, picture.getvalue())
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror}") from None
    return path


def _title(run: Run) -> str:
    title = f"{run.config.env.id}, seed {run.config.run.seed}"
    result = run.record["result"]
    if result is None:
        return f"{title}: {'failed' if run.record.get('failure') else 'under way'}"
    source = (
        "the true reward" if run.config.run.true_reward else f"{result['labels_answered']} labels"
    )
    mean, std = result["true_return_mean"], result["true_return_std"]
    returned = "not a number" if mean is None else f"{in_figures(mean)} ± {in_figures(std)}"
    return f"{title}: true return {returned} from {source} in {result['steps']:,} steps"


def _returns(axis: Any, data: dict[str, np.ndarray]) -> None:
    steps = data["time/step"]
    axis.plot(steps, data["rollout/true_return"], color=BLUE)
    axis.set(title="Return while training", xlabel=STEPS)
    axis.set_ylabel("true return", color=BLUE)
    if np.isnan(data["rollout/learned_return"]).all():
        return
    learned = axis.twinx()
    learned.plot(steps, data["rollout/learned_return"], color=ORANGE, alpha=0.7)
    learned.set_ylabel("learned return (rescaled at each fit)", color=ORANGE)
    learned.spines["top"].set_visible(False)
    asked = np.diff(np.nan_to_num(data["query/asked"]), prepend=0) > 0
    low = axis.get_ylim()[0]
    axis.plot(steps[asked], np.full(asked.sum(), low), "|", color=GREY, ms=9)
    axis.set_xlabel(f"{STEPS} (marks: labels asked)")


def _accuracy(axis: Any, data: dict[str, np.ndarray]) -> None:
    _by_member(axis, data, "reward/validation_accuracy", "-")
    axis.axhline(0.5, color=GREY, lw=0.8, ls=":", label="guessing")
    axis.legend(frameon=False, loc="lower right")
    axis.set(title="Accuracy on held-out labels, by member", xlabel=STEPS, ylim=(0, 1.02))


def _loss(axis: Any, data: dict[str, np.ndarray]) -> None:
    _by_member(axis, data, "reward/validation_loss", "-")
    _by_member(axis, data, "reward/training_loss", ":")
    axis.axhline(np.log(2), color=GREY, lw=0.8, ls=":", label="guessing")
    axis.plot([], [], "-", color="black", lw=1.2, label="held out")
    axis.plot([], [], ":", color="black", lw=1.2, label="trained on")
    axis.margins(y=0.2)  # room for the legend above the highest loss
    axis.set(title="Loss of each member", xlabel=STEPS, ylabel="nats per label", ylim=(0, None))
    axis.legend(frameon=False, loc="upper right", ncols=3)


def _by_member(axis: Any, data: dict[str, np.ndarray], key: str, line: str) -> None:
    member = 0
    while (column := f"{key}/{member}") in data:
        colour = COLOURS[member % len(COLOURS)]
        axis.plot(data["time/step"], data[column], line, color=colour, lw=1.2)
        member += 1


def _disagreement(axis: Any, data: dict[str, np.ndarray]) -> None:
    axis.plot(data["time/step"], data["reward/disagreement"], color=GREEN)
    axis.set(
        title="Disagreement of the members",
        xlabel=STEPS,
        ylabel="sd over members (sd of the first batch: 1)",
        ylim=(0, None),
    )


def _labels(axis: Any, data: dict[str, np.ndarray]) -> None:
    from matplotlib.ticker import MaxNLocator

    steps, asked, answered = (
        np.concatenate([[0], np.nan_to_num(data[key])])
        for key in ("time/step", "query/asked", "label/answered")
    )
    # Wider, to be seen where all that is asked is answered.
    axis.step(steps, asked, color=GREY, lw=4, alpha=0.4, where="post")
    axis.step(steps, answered, color=BLUE, where="post")
    axis.set(title="Labels", xlabel=STEPS, ylim=(0, None))
    axis.set_ylabel("labels answered (grey: asked)", color=BLUE)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    edges = np.linspace(0, steps[-1], 21)
    gained = np.diff(np.interp(edges, steps, answered))
    rate = axis.twinx()
    rate.stairs(gained / np.diff(edges) * 1000, edges, color=ORANGE, alpha=0.7)
    rate.set_ylabel("labels per 1,000 steps", color=ORANGE)
    rate.spines["top"].set_visible(False)


def _taken_over(run: Run) -> int:
    """Labels that the run began with, which it did not ask."""
    if not run.label_file.exists():
        return 0
    with run.open_labels(read_only=True) as store:
        return store.count_answered(0)


def _labelling(run: Run) -> str:
    """How the labels were given: sides of the screen, and how consistent the labeller was."""
    with run.open_labels(read_only=True) as store:
        labels, taken = store.labels(), store.count_answered(0)
        agreeing, probes = consistency(store)
    shown = Counter(turned(label.answer, label.swapped) for label in labels)
    parts = [f"{shown[answer]} {answer}" for answer in ANSWERS if shown[answer]]
    if taken:
        parts.append(f"{taken} of them taken over")
    if probes:
        parts.append(f"{agreeing} of {probes} repeated pairs answered alike")
    return ", ".join(parts)


def _time(axis: Any, data: dict[str, np.ndarray]) -> None:
    seconds = [data[f"time/{stage}"][-1] for stage in STAGES]
    bars = axis.barh(STAGES, seconds, color=BLUE)
    total = max(1e-9, sum(seconds))
    axis.bar_label(bars, [f"{100 * s / total:.1f} %" for s in seconds], padding=3)
    axis.invert_yaxis()
    speed = data["time/steps_per_second"][-1]
    axis.set(title=f"Where the time went ({speed:,.0f} steps/s)", xlabel="seconds")
    axis.margins(x=0.2)
