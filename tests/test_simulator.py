import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor

from envs.point_mass import PointMassEnv
from prefrl.agent.trial import can_be_restored
from prefrl.clips.simulator import (
    array_to_generator,
    generator_to_array,
    read_state,
    restore,
    snapshot,
    write_state,
)
from prefrl.config import EnvConfig
from prefrl.registry import prepare_mujoco

EXACT = [
    "HalfCheetah-v5",
    "Hopper-v5",
    "Walker2d-v5",
    "Ant-v5",
    "Swimmer-v5",
    "Reacher-v5",
    "InvertedPendulum-v5",
    "InvertedDoublePendulum-v5",
    "Humanoid-v5",
    "Pendulum-v1",
    "CartPole-v1",
    "MountainCarContinuous-v0",
    "prefrl/PointMass-v0",
    "prefrl/HopperBackflip-v0",
    "prefrl/HalfCheetahOneLeg-v0",
]


def act(env: gym.Env, steps: int, rng: np.random.Generator) -> list:
    space = env.action_space
    seen = []
    for _ in range(steps):
        if isinstance(space, gym.spaces.Box):
            action = rng.uniform(space.low, space.high).astype(np.float32)
        else:
            action = rng.integers(space.n)
        observation, reward, terminated, truncated, _ = env.step(action)
        seen += [*np.ravel(observation), reward, truncated]
        if terminated or truncated:
            seen += [*np.ravel(env.reset()[0])]
    return seen


@pytest.mark.parametrize("env_id", EXACT)
def test_restored_environment_goes_on_bit_for_bit(env_id):
    prepare_mujoco()
    first, second = (Monitor(gym.make(env_id, max_episode_steps=40)) for _ in range(2))
    first.reset(seed=1)
    act(first, 25, np.random.default_rng(0))
    saved = snapshot(first)
    second.reset(seed=99)
    restore(second, saved)
    # Past the end of the episode, so that the time limit and the reset noise are compared too.
    assert act(first, 60, np.random.default_rng(5)) == act(second, 60, np.random.default_rng(5))
    assert (
        first.episode_returns == second.episode_returns
        or first.episode_returns[-1:] == (second.episode_returns[-1:])
    )
    first.close()
    second.close()


@pytest.mark.filterwarnings("ignore:.*already returned terminated:UserWarning")
def test_a_fallen_cart_pole_goes_on_as_it_would():
    """Where termination is ignored, its reward depends on more than its state."""
    first, second = (gym.make("CartPole-v1").unwrapped for _ in range(2))
    first.reset(seed=1)
    while not first.step(1)[2]:
        pass
    second.reset(seed=2)
    restore(second, snapshot(first))
    assert [first.step(1)[1], first.step(0)[1]] == [second.step(1)[1], second.step(0)[1]] == [0, 0]


@pytest.mark.parametrize("at", [1, 4, 9, 16, 25])
def test_contacts_before_and_after_do_not_matter(at):
    """Saved in the air or on the ground, restored where another such thing happened."""
    prepare_mujoco()
    first, second = gym.make("HalfCheetah-v5"), gym.make("HalfCheetah-v5")
    for away in (0, 3, 10, 30):
        first.reset(seed=at)
        second.reset(seed=away)
        act(first, at, np.random.default_rng(at))
        act(second, away, np.random.default_rng(away))
        restore(second, snapshot(first))
        assert act(first, 9, np.random.default_rng(2)) == act(second, 9, np.random.default_rng(2))
    first.close()
    second.close()


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Pendulum-v1"])
def test_written_state_is_read_back(env_id):
    prepare_mujoco()
    env = gym.make(env_id)
    env.reset(seed=0)
    act(env, 5, np.random.default_rng(0))
    state = read_state(env)
    act(env, 5, np.random.default_rng(1))
    assert (read_state(env) != state).any()
    write_state(env, state)
    np.testing.assert_array_equal(read_state(env), state)
    env.close()


class Windier(PointMassEnv):
    """Its wind grows with each episode, which its state does not say."""

    episodes = 0

    def reset(self, **options):
        self.episodes += 1
        return super().reset(**options)

    def step(self, action):
        return super().step(np.clip(action + 0.1 * self.episodes, -1, 1))


class Gusty(PointMassEnv):
    """A gust comes late in its episodes, by a count that its state does not say."""

    def reset(self, **options):
        self.steps = 0
        return super().reset(**options)

    def step(self, action):
        self.steps += 1
        return super().step(action if self.steps < 400 else -action)


gym.register("Windier-v0", Windier, max_episode_steps=1000)
gym.register("Gusty-v0", Gusty, max_episode_steps=1000)


@pytest.mark.parametrize("env_id", ["Windier-v0", "Gusty-v0"])
def test_what_episodes_are_counted_by_or_comes_late_in_them_is_not_restored(env_id):
    assert not can_be_restored(EnvConfig(env_id))


def test_unknown_simulator_has_no_state():
    class Opaque(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (1,))
        action_space = gym.spaces.Box(-1, 1, (1,))

    assert read_state(Opaque()).shape == (0,)
    assert snapshot(Opaque()) is None


def test_generator_round_trip():
    first, second = np.random.default_rng(3), np.random.default_rng(4)
    first.integers(10, size=3, dtype=np.int32)  # leaves half a word in the generator
    array_to_generator(generator_to_array(first), second)
    assert first.integers(2**31, size=5, dtype=np.int32).tolist() == (
        second.integers(2**31, size=5, dtype=np.int32).tolist()
    )
