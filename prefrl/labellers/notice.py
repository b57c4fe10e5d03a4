"""What the window says while there is no pair to show: what it waits for, and for how long."""

import time
from dataclasses import dataclass

from prefrl.labellers.player import Progress


@dataclass(frozen=True)
class Notice:
    """What stands in place of a pair."""

    headline: str
    detail: str
    done: float | None = None
    """Share of the waiting that is over, from 0 to 1, where that is known."""


def notice(progress: Progress, *, run: str, opened: float, drawing: bool) -> Notice:
    """What the window waits for, and for how long.

    Args:
        progress: What is known of the run.
        run: The run's folder, as to be typed.
        opened: When the window was opened, seconds since 1970.
        drawing: Whether a pair is in hand and only its frames are missing.
    """
    now = time.time()
    if drawing:
        return Notice("Drawing the next pair", "This takes about a second.")
    if progress.state == "untaught":
        return Notice(
            "Training has ended: too few labels came while it ran",
            f"`prefrl resume {run}` says how to begin anew from the answers given.",
        )
    left = progress.waiting - progress.elsewhere
    if progress.waiting and left <= 0:
        return Notice("Another window has the remaining pairs", "New ones will come to both.")
    if progress.given >= progress.budget and progress.state != "finished":
        return Notice(
            f"All {progress.budget} labels are given. Thank you!",
            "Nobody trains at the moment: " + _resume(run)
            if progress.state == "paused"
            else f"The agent trains on by itself{_time_left(progress, now)}.",
        )
    if progress.state == "finished":
        return Notice("Training has finished", f"`prefrl video {run}` shows what was learned.")
    if progress.state == "paused":
        if now - opened < 5.0 and not progress.noted:
            return Notice("Training is starting", "The first pairs come in a few seconds.")
        return Notice("Training is paused", _resume(run))
    if not progress.noted:
        waited = now - opened
        return Notice("Training is starting", "The first pairs come in a few seconds.", waited / 10)
    due = max(progress.next_step, progress.step + progress.rollout)
    due = -(-due // progress.rollout) * progress.rollout
    speed = max(1e-9, progress.steps_per_second)
    wait = (due - progress.step) / speed
    gone = now - progress.noted
    detail = f"The agent acts until step {due:,}, then it has new clips to ask about"
    if gone < wait:
        return Notice("Waiting for new pairs", f"{detail}: {_span(wait - gone)}.", gone / wait)
    return Notice("Waiting for new pairs", f"{detail}: any moment now.", 1.0)


def _resume(run: str) -> str:
    return f"`prefrl resume {run}` goes on with it."


def _time_left(progress: Progress, now: float) -> str:
    if not progress.noted or progress.steps_per_second <= 0:
        return ""
    left = (progress.steps - progress.step) / progress.steps_per_second
    return f", {_span(max(0.0, left - (now - progress.noted)))} more"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min"
