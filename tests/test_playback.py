import numpy as np
import pytest

from prefrl.clips.render import FASTEST, clip_playback
from prefrl.labellers.playback import HOLD, Playback
from prefrl.labellers.player import Pair

FRAMES = np.zeros((20, 4, 4, 3), np.uint8)


def playing(tempo=1.0, fps=10.0):
    return Playback(Pair(FRAMES, FRAMES, fps, 1.0), tempo, now=100.0)


def test_frames_follow_the_clock_and_the_last_one_is_held():
    playback = playing()
    at = [playback.frame(100.0 + t) for t in (0.0, 0.05, 0.15, 1.05, 1.95, 2.0, 2.0 + HOLD - 0.01)]
    assert at == [0, 0, 1, 10, 19, 19, 19]
    assert playback.frame(100.0 + 2.0 + HOLD + 0.11) == 1, "and it begins again"


def test_tempo_changes_go_on_from_the_frame_that_is_on():
    playback = playing()
    playback.set_tempo(0.5, now=101.05)
    assert playback.frame(101.05) == 10
    assert playback.frame(101.45) == 12
    playback.set_tempo(4.0, now=101.45)
    assert playback.frame(101.55) == 16


def test_pause_steps_and_restart():
    playback = playing()
    playback.pause(100.55)
    assert playback.stopped
    assert playback.frame(170.0) == 5
    playback.turn(1, 170.0)
    assert playback.frame(171.0) == 6
    playback.turn(-7, 171.0)
    assert playback.frame(171.0) == 19, "round the corner"
    playback.turn(1, 171.0)
    playback.turn(4, 171.0)
    playback.pause(200.0)
    assert not playback.stopped
    assert playback.frame(200.0) == 4
    assert playback.frame(200.3) == 7
    playback.restart(300.0)
    assert playback.frame(300.0) == 0


@pytest.mark.parametrize(
    ("length", "rate", "stride", "fps"),
    [
        (60, 125, 2, 20.0),  # Hopper: 0.48 s of its time are shown in 1.5 s
        (50, 20, 1, 20.0),  # HalfCheetah: 2.5 s, as it is
        (15, 10, 1, 10.0),  # the point mass: 1.5 s, as it is
        (15, 50, 1, 10.0),  # Reacher: 0.3 s in 1.5 s
        (1000, 100, 12, 28.0),  # 10 s in 3 s
    ],
)
def test_a_clip_is_shown_at_a_pace_that_can_be_judged(length, rate, stride, fps):
    assert clip_playback(length, rate) == (stride, pytest.approx(fps))
    frames = -(-length // stride)
    assert fps <= FASTEST
    assert 1.5 <= frames / fps <= 3.0 + 1e-9
