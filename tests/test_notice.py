import time

import pytest

from prefrl.labellers.notice import notice
from prefrl.labellers.player import Progress


def say(drawing=False, opened=None, **values):
    now = time.time()
    progress = Progress(
        **{"budget": 40, "steps": 30_000, "rollout": 1000, "state": "training"} | values
    )
    return notice(progress, run="runs/h", opened=opened or now - 60, drawing=drawing)


def test_the_estimate_is_the_time_to_the_rollout_in_which_pairs_are_due():
    at = say(step=4000, next_step=5500, steps_per_second=100.0, noted=time.time() - 5)
    assert at.headline == "Waiting for new pairs"
    assert "until step 6,000" in at.detail
    assert "about 15 s" in at.detail
    assert at.done == pytest.approx(0.25, abs=0.01)


def test_pairs_that_are_due_come_with_the_next_rollout():
    at = say(step=4000, next_step=100, steps_per_second=100.0, noted=time.time() - 2)
    assert "until step 5,000" in at.detail
    assert "about 8 s" in at.detail


def test_an_estimate_that_was_too_low_does_not_go_below_nothing():
    at = say(step=4000, next_step=100, steps_per_second=100.0, noted=time.time() - 60)
    assert "any moment" in at.detail
    assert at.done == 1.0


@pytest.mark.parametrize(
    ("values", "headline", "detail"),
    [
        ({"drawing": True}, "Drawing the next pair", "second"),
        ({"waiting": 2, "elsewhere": 2}, "Another window has the remaining pairs", ""),
        ({"given": 40, "noted": 1.0, "steps_per_second": 9.0}, "All 40 labels are given", "trains"),
        ({"given": 40, "state": "paused"}, "All 40 labels are given", "prefrl resume runs/h"),
        ({"state": "finished", "given": 12}, "Training has finished", "prefrl video runs/h"),
        ({"state": "untaught", "given": 3}, "too few labels came", "prefrl resume runs/h"),
        ({"state": "paused", "noted": 1.0}, "Training is paused", "prefrl resume runs/h"),
        ({"state": ""}, "Training is starting", "seconds"),
    ],
)
def test_says_what_it_waits_for(values, headline, detail):
    at = say(**values)
    assert headline in at.headline
    assert detail in at.detail
