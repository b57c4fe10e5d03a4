"""Environments that no state draws: filmed while they act, and drawn in their own way."""

from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

import prefrl
from prefrl.agent.envs import TimedVecEnv
from prefrl.agent.stack import Stack
from prefrl.clips.render import Renderer
from prefrl.clips.simulator import read_state
from prefrl.clock import Stopwatch
from prefrl.config import EnvConfig
from prefrl.configfile import PRESETS, load_config
from prefrl.environment import make_drawable, make_env
from prefrl.errors import RunFailed, UserError
from prefrl.filming import before_after


class Own(PendulumEnv):
    """Of whose picture the state may tell everything or not."""


class Grid(gym.Env):
    """A world whose size has nothing to do with its frames."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    shape: tuple[int, ...] = (64, 48, 3)
    worst = 2**31
    """A seed from which it cannot begin."""
    last = 10**6
    """A step after which it cannot be drawn."""

    def __init__(self, render_mode=None, width=10, height=10):
        self.render_mode = render_mode
        self.size = (width, height)

    def reset(self, *, seed=None, options=None):
        if seed is not None and seed > self.worst:
            raise ValueError(f"no map of seed {seed}")
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.full(2, self.steps / 100, np.float32), 0.0, False, False, {}

    def render(self):
        if self.steps > self.last:
            raise ValueError("no sprite")
        return np.zeros(self.shape, np.uint8)


gym.register("OwnPendulum-v0", Own, max_episode_steps=60)
gym.register("Grid-v0", Grid, max_episode_steps=60)


@pytest.mark.parametrize(("env_id", "exact"), [("Pendulum-v1", True), ("OwnPendulum-v0", False)])
def test_films_are_not_saved_so_a_filmed_run_does_not_go_on_exactly(env_id, exact, tmp_path):
    sections = {
        "agent": {"n_steps": 64, "batch_size": 64},
        "clips": {"length": 15},
        "labels": {"labeller": "human", "budget": 4},
        "run": {"steps": 2048},
    }
    config = load_config(env_id, sections)
    stack = Stack(config, Stopwatch())
    stack.model.learn(64 * config.env.copies)
    stack.save(tmp_path)
    again = Stack(config, Stopwatch())
    assert again.load(tmp_path) == exact
    asked = [len(s.recorder.buffer.fresh()) for s in (stack, again)]
    assert (asked[0] == asked[1]) == exact
    for one in (stack, again):
        one.close()


@pytest.mark.parametrize(("kwargs", "size"), [({}, (10, 10)), ({"width": 6}, (6, 10))])
def test_width_and_height_may_mean_something_else(kwargs, size):
    env = make_drawable(EnvConfig("Grid-v0", kwargs=kwargs), 320, 240)
    assert env.unwrapped.size == size


@pytest.mark.parametrize(
    ("kwargs", "shape"), [({}, (240, 320, 3)), ({"width": 64, "height": 48}, (48, 64, 3))]
)
def test_a_size_that_the_user_configures_stands(kwargs, shape):
    env = make_drawable(EnvConfig("Hopper-v5", kwargs=kwargs), 320, 240)
    env.reset(seed=0)
    assert env.render().shape == shape
    env.close()


class Placed(InvertedPendulumEnv):
    """Has a colour in each episode, in the model, of which the state says nothing."""

    def reset_model(self):
        self.channel = int(self.np_random.integers(3))
        self.model.geom_rgba[:, :3] = np.eye(3)[self.channel]
        return super().reset_model()


gym.register("Placed-v0", Placed, max_episode_steps=100)


def say_that_the_state_draws(monkeypatch, said=True):
    metadata = InvertedPendulumEnv.metadata | {"drawn_from_state": said}
    monkeypatch.setattr(Placed, "metadata", metadata)


@pytest.mark.parametrize("by", ["class", "object"])
@pytest.mark.parametrize("said", [None, True, False])
def test_own_mujoco_environments_are_filmed_unless_they_say_that_the_state_draws_them(
    monkeypatch, said, by
):
    if said is not None and by == "class":
        say_that_the_state_draws(monkeypatch, said)
    env = make_env(EnvConfig("Placed-v0"))
    if said is not None and by == "object":
        env.unwrapped.metadata = env.metadata | {"drawn_from_state": said}
    env.reset(seed=0)
    assert len(read_state(env)) == (5 if said else 0)  # time, two positions, two velocities
    env.close()


@pytest.mark.parametrize("then", [True, False])
def test_a_run_whose_clips_are_drawn_otherwise_by_now_does_not_go_on(monkeypatch, tmp_path, then):
    config = load_config("Placed-v0", {"env": {"termination": "ignore"}})
    say_that_the_state_draws(monkeypatch, then)
    stack = Stack(config, Stopwatch())
    stack.model.learn(config.rollout_steps)
    stack.save(tmp_path)
    say_that_the_state_draws(monkeypatch, not then)
    again = Stack(config, Stopwatch())
    numbers = (5, 0) if then else (0, 5)
    words = r"from a state of {} numbers, which is of {} for Placed-v0 now".format(*numbers)
    with pytest.raises(UserError, match=words):
        again.load(tmp_path)
    for one in (stack, again):
        one.close()


def test_a_film_changes_nothing_that_the_environment_could_look_at():
    """Such as the size of the floor, which has no end where clips are drawn."""
    gym.register("OwnHopper-v0", entry_point=type("Own", (HopperEnv,), {}), max_episode_steps=60)
    envs = TimedVecEnv(EnvConfig("OwnHopper-v0"), seed=0, stopwatch=Stopwatch(), drawable=True)
    envs.reset()
    sizes = [env.unwrapped.model.geom_size.copy() for env in envs.envs[:2]]
    envs.camera()
    assert envs.envs[0].unwrapped.model.geom_size.tolist() == sizes[0].tolist()
    assert sizes[0].tolist() == sizes[1].tolist()
    envs.close()


class Drawing(Grid):
    """A MuJoCo environment of its own make, that draws itself in its own way."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.model = mujoco.MjModel.from_xml_string("<mujoco/>")
        self.data = mujoco.MjData(self.model)


gym.register("Drawing-v0", Drawing, max_episode_steps=60)


def test_a_mujoco_environment_may_draw_itself_in_its_own_way(monkeypatch):
    envs = TimedVecEnv(EnvConfig("Drawing-v0"), seed=0, stopwatch=Stopwatch(), drawable=True)
    envs.reset()
    assert envs.camera().shape == Grid.shape
    assert Renderer(envs.envs[0]).frame().shape == Grid.shape
    monkeypatch.setattr(Grid, "last", -1)
    with pytest.raises(UserError, match=r"^the environment cannot be drawn: ValueError: no sprite"):
        Renderer(envs.envs[0])
    envs.close()


def test_a_film_of_an_own_mujoco_environment_shows_what_it_put_into_the_model():
    sections = {
        "agent": {"n_steps": 64},
        "env": {"termination": "ignore"},
        "labels": {"labeller": "human"},
    }
    stack = Stack(load_config("Placed-v0", sections), Stopwatch())
    stack.recorder.reset()
    assert stack.recorder.films
    for _ in range(64):
        stack.recorder.step(np.zeros((stack.envs.num_envs, 1), np.float32))
    frames = stack.recorder.buffer.take(int(stack.recorder.buffer.fresh()[0])).frames
    coloured = frames[frames.max(axis=-1).astype(int) - frames.min(axis=-1) > 100]
    assert len(coloured) > 100
    assert (coloured.argmax(axis=1) == stack.envs.envs[0].unwrapped.channel).all()
    stack.close()


def test_the_untrained_policy_is_shown_as_it_explores(tmp_path, monkeypatch):
    """Its noise drawn anew as often as in training; here, before one observation."""
    preset = (PRESETS / "prefrl-PointMass-v0.yaml").read_text()
    Path("gsde.yaml").write_text(preset.replace("agent:", "agent:\n  sde_sample_freq: 4"))
    options = {"preset": "gsde.yaml", "true_reward": True, "steps": 960, "quiet": True}
    run = prefrl.train("prefrl/PointMass-v0", out="run", **options)
    acts = []

    @contextmanager
    def film(run, act, seconds):
        acts.append(act)
        yield [], 30

    monkeypatch.setattr("prefrl.filming.film", film)
    monkeypatch.setattr("prefrl.filming.write_mp4", lambda *_: explored.extend(act_often(acts[0])))
    explored: list = []

    def act_often(act):
        return [tuple(act(np.full(4, 0.3, np.float32))) for _ in range(12)]

    before_after(run, tmp_path / "both.mp4")
    assert len(set(explored)) == 3
    assert len(set(explored[:4])) == 1


@pytest.mark.parametrize("shape", [(64, 48, 4), (64, 48)])
def test_frames_that_are_no_pictures_are_refused_before_a_run(monkeypatch, shape):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(Grid, "shape", shape)
    with pytest.raises(UserError, match=r"must give frames \(height, width, 3\) of uint8, got"):
        prefrl.train(f"{__name__}:Grid-v0", labeller="human", labels=5, steps=18_000, quiet=True)


def test_what_fails_before_the_first_step_or_in_a_picture_is_a_sentence(monkeypatch):
    envs = TimedVecEnv(EnvConfig("Grid-v0"), seed=0, stopwatch=Stopwatch(), drawable=True)
    monkeypatch.setattr(Grid, "worst", -1)
    with pytest.raises(RunFailed, match=r"^Grid-v0 failed in an episode: ValueError: no map"):
        envs.reset()
    monkeypatch.undo()
    envs.reset()
    monkeypatch.setattr(Grid, "last", -1)
    with pytest.raises(RunFailed, match=r"^Grid-v0 failed in an episode: ValueError: no sprite"):
        envs.camera()


def test_thin_lines_of_a_large_picture_are_seen_in_a_clip(monkeypatch):
    picture = np.full((600, 1000, 3), 255, np.uint8)
    picture[:, 501:503] = 0
    monkeypatch.setattr(Grid, "render", lambda self: picture)
    config = load_config("Grid-v0", {"labels": {"labeller": "human"}, "agent": {"n_steps": 64}})
    stack = Stack(config, Stopwatch())
    stack.recorder.reset()
    for _ in range(64):
        stack.recorder.step(np.zeros((config.env.copies, 1), np.float32))
    frames = stack.recorder.buffer.take(int(stack.recorder.buffer.fresh()[0])).frames
    stack.close()
    assert frames.shape[1:] == (120, 200, 3)
    assert (frames[:, :, 100] < 200).all()
    assert (np.delete(frames, 100, axis=2) == 255).all()
