import numpy as np
import pytest
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

from envs.counted import geoms_on_floor
from envs.half_cheetah_one_leg import HalfCheetahOneLegEnv
from prefrl.clips.simulator import restore, snapshot
from prefrl.config import EnvConfig
from prefrl.environment import make_env
from prefrl.errors import UserError

STILL = np.zeros(6, np.float32)


@pytest.fixture
def env():
    env = HalfCheetahOneLegEnv()
    env.reset(seed=0)
    yield env
    env.close()


def place(env, height=0.0, pitch=0.0, forward=0.0):
    """Torso so high above its usual place, head up by so many degrees; m/s forward."""
    position, velocity = np.zeros(9), np.zeros(9)
    position[1:3] = height, -np.radians(pitch)
    velocity[0] = forward
    env.set_state(position, velocity)


def step(env, action=STILL):
    return env.step(action)[4]


def test_it_moves_and_is_rewarded_as_half_cheetah_but_for_the_contacts(env):
    plain = HalfCheetahEnv()
    np.testing.assert_array_equal(plain.reset(seed=3)[0], env.reset(seed=3)[0])
    rng = np.random.default_rng(0)
    costs = []
    for _ in range(100):
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        expected, reward, *_ = plain.step(action)
        observation, got, terminated, truncated, info = env.step(action)
        np.testing.assert_array_equal(observation, expected)
        costs.append(reward - got)
        wrong = info["front_contact"] or info["body_contact"]
        expected_cost = 20.0 + info["x_velocity"] if wrong else 0.0
        assert costs[-1] == pytest.approx(expected_cost, abs=1e-9)
        parts = info["reward_forward"] + info["reward_ctrl"] + info["reward_contact"]
        assert parts == pytest.approx(got)
        assert not terminated
        assert not truncated
    assert 0 < np.count_nonzero(costs) < 100, "both happen"
    plain.close()


def test_who_touches_the_ground(env):
    def touching():
        info = step(env)
        return tuple(info[f"{name}_contact"] for name in ("front", "hind", "body"))

    place(env, height=1.0)
    assert touching() == (0, 0, 0)
    place(env)
    for _ in range(20):
        contacts = touching()
    assert contacts == (1, 1, 0), "at rest it stands on both feet"
    place(env, pitch=30, height=0.02)
    assert touching() == (0, 1, 0)
    place(env, pitch=-30, height=0.02)
    assert touching() == (1, 0, 0)
    place(env, pitch=180, height=-0.5)
    for _ in range(20):
        contacts = touching()
    assert contacts == (0, 0, 1), "on its back"
    assert step(env)["reward_contact"] < -15


def test_a_touch_in_the_middle_of_a_step_counts(env):
    """A foot that leaves the ground within the step of 0.05 s has touched it."""
    place(env, height=0.02, pitch=-30)
    env.data.qvel[1] = 5.0
    info = step(env)
    assert not geoms_on_floor(env.data, env._floor)
    assert info["front_contact"] == 1.0


def test_shares_and_distance_are_of_the_episode_so_far(env):
    place(env, height=1.0)
    start = env.data.qpos[0]
    env.data.userdata[0] = start
    for _ in range(2):
        step(env)
    env.data.qpos[0] += 3.0
    for _ in range(2):
        place(env, pitch=30, height=0.02)
        env.data.qpos[0] = start + 3.0
        info = step(env)
    assert info["hind_contact_share"] == 0.5
    assert info["front_contact_share"] == info["body_contact_share"] == 0.0
    assert info["distance"] == pytest.approx(3.0, abs=0.2)
    _, info = env.reset(seed=1)
    assert info["distance"] == 0.0
    assert info["hind_contact_share"] == 0.0
    assert step(env)["hind_contact_share"] in (0.0, 1.0)


def test_what_was_counted_is_part_of_the_state(env):
    for _ in range(10):
        step(env)
    other = HalfCheetahOneLegEnv()
    other.reset(seed=5)
    restore(other, snapshot(env))
    assert step(other) == step(env)
    other.close()


def test_a_reward_of_its_own():
    with pytest.raises(UserError, match="reward of its own, not ctrl_cost_weight"):
        make_env(EnvConfig("prefrl/HalfCheetahOneLeg-v0", kwargs={"ctrl_cost_weight": 0.0}))
