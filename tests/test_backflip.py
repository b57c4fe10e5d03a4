import copy

import numpy as np
import pytest
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

from envs.hopper_backflip import HopperBackflipEnv
from prefrl.clips.simulator import restore, snapshot
from prefrl.config import EnvConfig
from prefrl.environment import make_env
from prefrl.errors import UserError

TURN = 2 * np.pi
STILL = np.zeros(3, np.float32)


@pytest.fixture
def env():
    env = HopperBackflipEnv()
    env.reset(seed=0)
    yield env
    env.close()


def place(env, turns=0.0, height=1.25, spin=0.0, hip=0.0, knee=0.0):
    """So many backward turns from the start, with so many rad/s backward; joints in degrees."""
    position, velocity = np.zeros(6), np.zeros(6)
    position[1:5] = height, -turns * TURN, *np.radians([hip, knee])
    velocity[2] = -spin
    env.set_state(position, velocity)


def rest(env, steps=60):
    for _ in range(steps):
        *_, info = env.step(STILL)
    return info


def test_the_reward_is_the_published_formula_in_the_observations_of_hopper(env):
    plain = HopperEnv(terminate_when_unhealthy=False)
    plain.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(100):
        plain.set_state(env.data.qpos, env.data.qvel)
        plain.data.qacc_warmstart[:] = env.data.qacc_warmstart
        a = rng.uniform(-1, 1, 3).astype(np.float32)
        _, reward, *_ = env.step(a)
        o, *_ = plain.step(a)
        formula = -o[7] * (1 + 0.3 * o[0] + 0.1 * (a @ o[8:11]) - 0.05 * o[5])
        assert reward == pytest.approx(formula, rel=1e-6, abs=1e-9)
    plain.close()


def test_a_backward_turn_is_counted_and_rewarded(env):
    place(env, height=3.0, spin=8.0)
    _, reward, terminated, truncated, info = env.step(STILL)
    assert reward > 8.0
    assert not terminated
    assert not truncated
    # 8 rad/s for 0.008 s; the joints' dampers take little of it.
    assert info["rotations"] == pytest.approx(8 * 0.008 / TURN, rel=0.05)
    place(env, height=3.0, spin=-8.0)
    _, reward, *_, info = env.step(STILL)
    assert reward < -8.0
    assert info["rotations"] < 0


def test_what_is_seen_is_the_same_after_a_whole_turn(env):
    place(env, turns=0.3, height=2.0, spin=3.0)
    before = env._get_obs()
    place(env, turns=1.3, height=2.0, spin=3.0)
    np.testing.assert_allclose(env._get_obs(), before, atol=1e-12)
    assert env.observation_space.contains(before)


def test_standing_lands_nothing(env):
    info = rest(env, 20)
    assert (info["foot_contact"], info["body_contact"], info["landings"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("turns", "landings"), [(1.0, 1), (1.05, 1), (0.5, 0), (0.8, 0), (-1.0, 0), (2.0, 1)]
)
def test_a_turn_that_ends_on_the_foot_is_a_landing(env, turns, landings):
    place(env, turns=turns, height=1.3)
    assert rest(env)["landings"] == landings


def test_a_landing_counts_once_for_each_turn(env):
    for _ in range(2):
        place(env, turns=1.0, height=1.3)
        assert rest(env, 20)["landings"] == 1
    place(env, turns=2.0, height=1.3)
    assert rest(env, 20)["landings"] == 2
    env.reset(seed=1)
    assert rest(env, 5)["landings"] == 0


def test_lying_on_the_ground_touches_it_with_the_body(env):
    place(env, turns=0.25, height=0.3)
    info = rest(env)
    assert info["body_contact"] == 1.0
    assert info["height"] < 0.3


def test_the_share_of_time_on_the_body(env):
    rest(env, 20)
    place(env, turns=0.25, height=0.3)
    falling = [rest(env, 1) for _ in range(60)]
    lain = sum(info["body_contact"] for info in falling)
    assert 20 <= lain <= 60
    assert falling[-1]["body_contact_share"] == lain / 80
    assert env.reset(seed=1)[1]["body_contact_share"] == 0.0
    assert rest(env, 10)["body_contact_share"] == 0.0


def test_a_turn_that_ends_on_foot_and_knee_is_no_landing(env):
    place(env, turns=1.0, height=0.4, hip=-60, knee=-60)
    *_, info = env.step(STILL)
    assert (info["foot_contact"], info["body_contact"], info["landings"]) == (1, 1, 0)


def test_touching_oneself_is_not_touching_the_ground(env):
    place(env, turns=1.0, height=3.0, hip=-90, knee=-150)
    *_, info = env.step(STILL)
    assert len(env.data.contact), "foot and torso meet"
    assert (info["foot_contact"], info["body_contact"], info["landings"]) == (0, 0, 0)


def test_what_was_counted_is_part_of_the_state(env):
    place(env, turns=1.0, height=1.3)
    assert rest(env, 20)["landings"] == 1
    other = HopperBackflipEnv()
    other.reset(seed=5)
    restore(other, snapshot(env))
    assert other.step(STILL)[4] == env.step(STILL)[4]
    assert other.step(STILL)[4]["landings"] == 1
    other.close()


def test_a_copy_has_the_same_arguments():
    """Gymnasium's environments are copied, and sent to processes, by their arguments."""
    assert copy.deepcopy(HopperBackflipEnv(reset_noise_scale=0.1))._reset_noise_scale == 0.1


def test_early_termination_is_refused():
    for name, value in (("terminate_when_unhealthy", True), ("healthy_reward", 2.0)):
        with pytest.raises(UserError, match=f"horizon of its own, not {name}"):
            make_env(EnvConfig("prefrl/HopperBackflip-v0", kwargs={name: value}))
