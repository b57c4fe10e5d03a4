"""Environments of the user's own, which keep what they like, where they like."""

from functools import partial
from pathlib import Path
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from compare import assert_same_run, read_video
from gymnasium import spaces
from gymnasium.wrappers import RecordEpisodeStatistics

import prefrl
from envs.point_mass import PointMassEnv
from prefrl.agent.envs import TimedVecEnv
from prefrl.agent.trial import can_be_restored, check_env
from prefrl.clips.simulator import read_state, snapshot
from prefrl.clock import Stopwatch
from prefrl.config import EnvConfig
from prefrl.errors import RunFailed, UserError
from prefrl.evaluation import SEED, roll_out
from prefrl.filming import before_after
from prefrl.labels.store import LabelStore
from prefrl.metrics import read_metrics


class Walk(gym.Env):
    """A point that moves on a line; `state` is where it is."""

    def __init__(self, shape=(1,)):
        self.action_space = spaces.Box(-1, 1, shape, np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 1)
        return self.observe(), {}

    def observe(self):
        return np.float32([self.state[0], 1])

    def step(self, action):
        assert np.shape(action) == self.action_space.shape
        self.state = np.clip(self.state + 0.1 * np.mean(action), -1, 1)
        return self.observe(), float(self.state[0]), False, False, {}


class ToGoal(Walk):
    """Draws a goal in each episode, apart from its state."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.goal = self.np_random.uniform(-1, 1)
        return self.observe(), {}

    def observe(self):
        return np.float32([self.state[0], getattr(self, "goal", 0)])


class Counting(Walk):
    """Counts its steps, which only its reward shows."""

    steps = 0

    def step(self, action):
        self.steps += 1
        observation, reward, *rest = super().step(action)
        return observation, reward + self.steps, *rest


class Phased(Walk):
    """Its actions turn round late in an episode, by a count that is not in its state."""

    def reset(self, **options):
        self.steps = 0
        return super().reset(**options)

    def step(self, action):
        self.steps += 1
        return super().step(action if self.steps < 80 else -action)


gym.register("Phased-v0", entry_point=Phased, max_episode_steps=100)


class Named(Walk):
    """Its `state` is a word."""

    def reset(self, *, seed=None, options=None):
        gym.Env.reset(self, seed=seed)
        self.state, self.x = "idle", self.np_random.uniform()
        return self.observe(), {}

    def observe(self):
        return np.float32([self.x, 1])

    def step(self, action):
        self.state = "moving"
        self.x += 0.1 * float(action[0])
        return self.observe(), self.x, False, False, {}


class Reusing(Walk):
    """Gives the same array each time."""

    def __init__(self):
        super().__init__()
        self._observation = np.zeros(2, np.float32)

    def observe(self):
        self._observation[:] = self.state[0], 1
        return self._observation


class Faulty(Walk):
    """Is no number any more after 600 observations of all copies."""

    seen = 0

    def observe(self):
        Faulty.seen += 1
        return super().observe() * np.float32(np.nan if Faulty.seen > 600 else 1)


class Typed(Walk):
    """Says where it is in whole numbers, of any type."""

    def __init__(self, dtype):
        super().__init__()
        self.observation_space = spaces.Box(0, 100, (2,), np.dtype(dtype))

    def observe(self):
        return np.rint([50 + 50 * self.state[0], 1]).astype(self.observation_space.dtype)


class Scaling(Walk):
    """Changes the very action that it is given, or else one of its own."""

    def __init__(self, *, own=False):
        super().__init__()
        self.own = own

    def step(self, action):
        action = action.copy() if self.own else action
        action *= 0.5
        return super().step(action)


for kind in (Walk, ToGoal, Counting, Named, Reusing, Faulty, Typed, Scaling):
    gym.register(f"{kind.__name__}-v0", entry_point=kind, max_episode_steps=15)


gym.register(
    "Recorded-v0", entry_point=lambda: RecordEpisodeStatistics(Walk()), max_episode_steps=15
)


@pytest.fixture(autouse=True)
def _preset(tmp_path):
    (tmp_path / "small.yaml").write_text(
        "agent: {n_steps: 120, batch_size: 480}\nclips: {length: 5}\nlabels: {until: 0.9}\n"
    )


train = partial(prefrl.train, preset="small.yaml", labels=8, steps=1920, quiet=True)


@pytest.mark.parametrize(
    ("env_id", "exact"),
    [
        ("Walk-v0", True),
        ("HalfCheetah-v5", True),
        ("prefrl/PointMass-v0", True),
        ("ToGoal-v0", False),
        ("Counting-v0", False),
        ("Phased-v0", False),
        ("Named-v0", False),
        ("Recorded-v0", True),
        ("Scaling-v0", True),
    ],
)
def test_it_is_tried_whether_an_environment_can_be_restored(env_id, exact):
    config = EnvConfig(env_id, copies=1)
    assert can_be_restored(config) == exact
    envs = TimedVecEnv(config, seed=0, stopwatch=Stopwatch())
    envs.reset()
    assert envs.load_state(envs.save_state()) == exact
    envs.close()


def test_a_state_that_is_no_number_is_left_alone():
    assert len(check_env(EnvConfig("Named-v0"), length=10)) == 10
    env = gym.make("Named-v0")
    env.reset(seed=0)
    assert snapshot(env) is None


@pytest.mark.parametrize(("metadata", "size"), [({}, 0), ({"drawn_from_state": True}, 1)])
def test_a_state_draws_the_scene_only_where_the_environment_says_so(metadata, size):
    env = gym.make("Walk-v0").unwrapped
    env.metadata = env.metadata | metadata
    env.reset(seed=0)
    assert read_state(env).shape == (size,)


@pytest.mark.parametrize("shape", [(), (1, 2), (2, 2)])
def test_actions_of_any_shape(shape):
    env_id = f"Shaped{np.prod(shape):.0f}-v0"
    gym.register(env_id, entry_point=Walk, kwargs={"shape": shape}, max_episode_steps=15)
    run = train(env_id, out="run")
    assert len(read_metrics(run.path / "metrics.csv")) == 2
    assert roll_out(run, 1)[0].actions.shape == (15, *shape)


def test_observations_are_kept_although_their_array_is_used_again():
    plain = train("Walk-v0", out="plain")
    reusing = train("Reusing-v0", out="reusing")
    for first, second in zip(roll_out(plain, 2), roll_out(reusing, 2), strict=True):
        np.testing.assert_array_equal(first.clip.observations, second.clip.observations)
    config = EnvConfig("Reusing-v0", copies=1)
    assert len(np.unique(check_env(config, length=10).observations[:, 0])) > 5
    envs = TimedVecEnv(config, seed=0, stopwatch=Stopwatch())
    envs.reset()
    for _ in range(15):
        observations, _, _, infos = envs.step(np.ones((1, 1), np.float32))
    assert infos[0]["terminal_observation"][0] == 1
    assert observations[0, 0] < 1
    envs.close()


@pytest.mark.parametrize("dtype", ["int64", "uint8"])
def test_observations_of_any_type_are_learned_from_alike(dtype):
    """PPO keeps what they are scaled to in the type that the environment says."""
    for name in (dtype, "float32"):
        Path(f"{name}.yaml").write_text(
            Path("small.yaml").read_text() + f"env: {{kwargs: {{dtype: {name}}}}}"
        )
    both = [train("Typed-v0", out=n, preset=f"{n}.yaml") for n in (dtype, "float32")]
    assert_same_run(*both)


def test_an_environment_may_change_the_action_it_is_given():
    Path("own.yaml").write_text(Path("small.yaml").read_text() + "env: {kwargs: {own: true}}")
    given = train("Scaling-v0", out="given")
    own = train("Scaling-v0", out="own", preset="own.yaml")
    assert_same_run(given, own)
    for first, second in zip(roll_out(given, 2), roll_out(own, 2), strict=True):
        np.testing.assert_array_equal(first.actions, second.actions)
        np.testing.assert_array_equal(first.clip.actions, second.clip.actions)
        np.testing.assert_array_equal(
            first.rewards["learned_return"], second.rewards["learned_return"]
        )


class Ending(Walk):
    """Ends an episode once it has made more steps than are tried beforehand."""

    def __init__(self, how="terminated"):
        super().__init__()
        self.how, self.steps = how, 0

    def step(self, action):
        self.steps += 1
        observation, reward, *_, info = super().step(action)
        ends = self.steps == 400
        return observation, reward, ends and self.how == "terminated", ends, info


gym.register("Ending-v0", entry_point=Ending, max_episode_steps=15)


@pytest.mark.parametrize("how", ["terminated", "truncated"])
def test_an_episode_that_ends_early_says_how_the_answers_are_kept(how):
    Path("ending.yaml").write_text(
        Path("small.yaml").read_text() + f"env: {{kwargs: {{how: {how}}}}}"
    )
    with pytest.raises(RunFailed, match=r"--allow-termination .*; --labels-from run/labels\.db"):
        train("Ending-v0", out="run", preset="ending.yaml", steps=3840)
    store = LabelStore("run/labels.db")
    assert store.count_answered()
    store.close()


class Seeded(Walk):
    """Does not go on from one of the seeds of the evaluation."""

    def reset(self, *, seed=None, options=None):
        self.unlucky = seed == SEED + 4
        return super().reset(seed=seed)


class Ends(Seeded):
    def step(self, action):
        observation, reward, _, *rest = super().step(action)
        return observation, reward, self.unlucky, *rest


class Fails(Seeded):
    def step(self, action):
        if self.unlucky:
            raise ConnectionError("simulator gone")
        return super().step(action)


class Loses(Seeded):
    def observe(self):
        return super().observe() * np.float32(np.nan if self.unlucky else 1)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            Fails,
            r"^Fails-v0 failed in an episode: ConnectionError: simulator gone \(test_own_",
        ),
        (
            Loses,
            r"^Loses-v0 gave an observation that is not finite: mend it, then `prefrl resume ",
        ),
        (Ends, r"--allow-termination .*; --labels-from run/labels\.db takes"),
    ],
)
def test_an_environment_that_fails_in_the_evaluation_fails_the_run_in_a_sentence(kind, message):
    gym.register(f"{kind.__name__}-v0", entry_point=kind, max_episode_steps=15)
    with pytest.raises(RunFailed, match=message):
        train(f"{kind.__name__}-v0", out="run")


def test_what_cannot_be_drawn_says_what_it_lacks(monkeypatch):
    monkeypatch.setattr(Walk, "metadata", {"render_modes": ["rgb_array"]})
    with pytest.raises(UserError, match=r"Walk-v0 cannot be drawn.* render_mode='rgb_array'"):
        prefrl.video(train("Walk-v0", out="run"), "walk.mp4")


def test_labels_of_a_store_that_does_not_say_of_what_it_is(tmp_path):
    run = train("Walk-v0", out="run")
    store = LabelStore(run.label_file)
    store.db.execute("DELETE FROM facts WHERE name = 'environment'")
    store.close()
    again = train("Walk-v0", out="again", labeller="none", labels_from=run.label_file)
    assert again.record["result"]["labels_answered"] == 8


@pytest.mark.parametrize("options", [{}, {"true_reward": True}])
def test_an_observation_that_is_no_number_is_named_as_the_environments(monkeypatch, options):
    monkeypatch.setattr(Faulty, "seen", 0)
    words = "^Faulty-v0 gave an observation that is not finite: mend it, then `prefrl resume "
    with pytest.raises(RunFailed, match=words):
        train("Faulty-v0", **options)


class Quick(PointMassEnv):
    """An episode is over before a video's second frame would be due."""

    metadata = PointMassEnv.metadata | {"render_fps": 1000}


def test_the_best_episode_is_shown_however_short_it_is():
    gym.register("Quick-v0", entry_point=Quick, max_episode_steps=15)
    run = train("Quick-v0", out="run")
    path = prefrl.video(run, best=True)
    assert len(read_video(path, 240, 240)) == 1


class Keyed(PointMassEnv):
    """Is pushed by a number that it looks up."""

    PUSHES: ClassVar = {0: np.float32([-1, 0]), 1: np.float32([1, 0]), 2: np.float32([0, 1])}

    def __init__(self, **options):
        super().__init__(**options)
        self.action_space = spaces.Discrete(3)

    def step(self, action):
        return super().step(self.PUSHES[action])


def test_a_discrete_action_is_a_number_in_videos_too():
    gym.register("Keyed-v0", entry_point=Keyed, max_episode_steps=15)
    run = train("Keyed-v0", out="run")
    assert isinstance(run.policy.predict(np.zeros(4)), np.integer)
    assert len(read_video(prefrl.video(run, "run.mp4", seconds=0.5), 240, 240)) == 5
    before_after(run, Path("both.mp4"), seconds=0.5)
