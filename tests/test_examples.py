"""The oracles in examples/: five lines each, and they prefer what they say they do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prefrl.agent.trial import check_env
from prefrl.config import EnvConfig
from prefrl.labellers.oracle import checked_scores, load_score

EXAMPLES = Path(__file__).parent.parent / "examples"
ENVS = {
    "still": "Hopper-v5",
    "backward": "HalfCheetah-v5",
    "turn": "Ant-v5",
    "kneel": "Walker2d-v5",
    "land": "prefrl/HopperBackflip-v0",
}


@pytest.fixture(scope="module")
def clips():
    """A clip of random actions for each example."""
    ignore = {"termination": "ignore"}
    return {name: check_env(EnvConfig(env_id, **ignore), 20) for name, env_id in ENVS.items()}


def prefers(name, better, worse):
    score = load_score(f"{EXAMPLES / name}.py:score")
    left, right = (checked_scores(score, clip).sum() for clip in (better, worse))
    return left > right


def seen(clip, **columns):
    """The clip with other values in columns of its observations, named `o<column>`."""
    observations = clip.observations.copy()
    for name, value in columns.items():
        observations[:, int(name[1:])] = value
    return replace(clip, observations=observations)


def told(clip, **infos):
    """The clip with other infos."""
    full = {key: np.broadcast_to(value, (len(clip),)) for key, value in infos.items()}
    return replace(clip, infos=clip.infos | full)


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(ENVS)


@pytest.mark.parametrize("name", ENVS)
def test_an_example_is_short_and_scores_a_clip_of_its_environment(name, clips):
    text = (EXAMPLES / f"{name}.py").read_text()
    body = text[text.index("def score") :].splitlines()[1:]
    assert len(body) <= 5
    score = load_score(f"{EXAMPLES / name}.py:score", clips[name])
    assert checked_scores(score, clips[name]).shape == (20,)


def test_still(clips):
    clip = told(seen(clips["still"], o0=1.25), x_velocity=0.0)
    assert prefers("still", clip, told(clip, x_velocity=0.3))
    assert prefers("still", clip, told(clip, x_velocity=-0.3))
    assert prefers("still", clip, seen(clip, o0=0.2)), "lying still is not standing still"


def test_backward(clips):
    clip = clips["backward"]
    assert prefers("backward", told(clip, x_velocity=-2.0), told(clip, x_velocity=1.0))


def test_turn(clips):
    clip = told(seen(clips["turn"], o18=2.0), x_velocity=0.0, y_velocity=0.0)
    assert prefers("turn", clip, seen(clip, o18=1.0))
    assert prefers("turn", clip, seen(clip, o18=-2.0)), "to the left"
    assert prefers("turn", clip, told(clip, y_velocity=-1.0)), "on the spot"


def test_kneel(clips):
    clip = seen(clips["kneel"], o0=0.7, o1=0.0, o3=-1.57, o6=-1.57)
    for worse in (
        seen(clip, o0=1.25),
        seen(clip, o0=0.2),
        seen(clip, o1=1.0),
        seen(clip, o3=0.0),
        seen(clip, o6=0.0),
    ):
        assert prefers("kneel", clip, worse)


def test_land(clips):
    turning = np.linspace(0.4, 0.7, 20)
    quiet = {"landings": 0.0, "foot_contact": 0.0, "body_contact": 0.0}
    clip = told(clips["land"], rotations=turning, **quiet)
    assert prefers("land", clip, told(clip, rotations=turning[::-1]))
    assert prefers("land", clip, told(clip, body_contact=1.0))
    assert prefers("land", told(clip, landings=np.arange(20) > 10), clip)
    foot = told(clip, foot_contact=1.0)
    assert prefers("land", seen(foot, o2=1.0), seen(foot, o2=-1.0)), "upright on the foot"
