"""Every second copy of an environment begins anew early, on either back end."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics

from envs.point_mass import PointMassEnv
from prefrl.agent.envs import TimedVecEnv
from prefrl.agent.pool import PoolVecEnv
from prefrl.agent.ppo import PatientPPO
from prefrl.agent.reward_env import LearnedReward
from prefrl.checks import check_inputs
from prefrl.clips.recorder import ClipRecorder
from prefrl.clock import Stopwatch
from prefrl.config import EnvConfig
from prefrl.configfile import load_config
from prefrl.errors import UserError
from prefrl.reward.ensemble import RewardEnsemble

WHOLE, EARLY = 50, 30


@pytest.fixture(params=[TimedVecEnv, PoolVecEnv])
def copies(request):
    """Four half-cheetahs, whose whole episodes take 50 steps."""
    config = EnvConfig(
        "HalfCheetah-v5", copies=4, restart_every=EARLY, kwargs={"max_episode_steps": WHOLE}
    )
    envs = request.param(config, seed=0, stopwatch=Stopwatch())
    yield envs
    envs.close()


def step(envs):
    return envs.step(np.full((envs.num_envs, 6), 0.3, np.float32))


def test_every_second_copy_begins_anew(copies):
    copies.reset()
    ends = {i: [] for i in range(4)}
    for number in range(1, 101):
        observations, _, dones, infos = step(copies)
        for i in np.flatnonzero(dones):
            ends[i].append(number)
            assert infos[i]["TimeLimit.truncated"], "PPO has to bootstrap the value"
            last = infos[i]["terminal_observation"]
            assert last.shape == (17,)
            assert np.abs(last - observations[i]).max() > 0.01, "the new episode's first"
            whole = i % 2 == 0
            assert ("episode" in infos[i]) == whole, "returns are of whole episodes"
            if whole:
                assert infos[i]["episode"]["l"] == WHOLE
    assert ends == {0: [50, 100], 1: [30, 60, 90], 2: [50, 100], 3: [30, 60, 90]}


@pytest.mark.parametrize("backend", [TimedVecEnv, PoolVecEnv])
def test_an_early_copy_that_falls_reports_nothing_either(backend):
    config = EnvConfig("Hopper-v5", copies=2, restart_every=200, termination="allow")
    envs = backend(config, seed=0, stopwatch=Stopwatch())
    envs.reset()
    fallen = np.zeros(2, int)
    for _ in range(150):
        *_, dones, infos = envs.step(np.ones((2, 3), np.float32))
        fallen += dones
        reported = ["episode" in info for info in infos]
        assert reported == [bool(dones[0]), False]
    assert (fallen > 0).all()
    envs.close()


def test_what_a_wrapper_of_the_users_reports_of_a_part_does_not_count():
    gym.register(
        "Reporting-v0",
        entry_point=PointMassEnv,
        max_episode_steps=WHOLE,
        additional_wrappers=(RecordEpisodeStatistics.wrapper_spec(),),
    )
    config = EnvConfig("Reporting-v0", copies=2, restart_every=EARLY)
    envs = TimedVecEnv(config, seed=0, stopwatch=Stopwatch())
    model = PatientPPO("MlpPolicy", envs, n_steps=100, batch_size=50, device="cpu")
    model.learn(200)
    assert [record["l"] for record in model.ep_info_buffer] == [WHOLE, WHOLE]
    envs.close()


def test_learned_returns_are_of_whole_episodes(copies):
    recorder = ClipRecorder(copies, length=10, rollout_steps=60)
    ensemble = RewardEnsemble(*recorder.dims)
    inputs = np.random.default_rng(0).normal(size=(20, sum(recorder.dims))).astype(np.float32)
    ensemble.normalise_inputs(inputs)
    ensemble.normalise_outputs(inputs)  # from now on it counts as fitted
    early = [False, True, False, True]
    rewarded = LearnedReward(recorder, ensemble, early=early)
    rewarded.reset()
    sums = np.zeros(4)
    for _ in range(WHOLE):
        _, rewards, dones, _ = step(rewarded)
        sums += rewards
        sums[dones & early] = 0
    assert list(rewarded.episode_returns) == pytest.approx(sums[[0, 2]])
    assert list(rewarded.running_returns[[1, 3]]) == pytest.approx(sums[[1, 3]])


def test_a_restored_copy_begins_anew_in_time():
    config = EnvConfig("HalfCheetah-v5", copies=2, restart_every=EARLY)
    first, second = (TimedVecEnv(config, seed=s, stopwatch=Stopwatch()) for s in (0, 1))
    for envs in (first, second):
        envs.reset()
    for _ in range(20):
        step(first)
    assert second.load_state(first.save_state())
    for _ in range(20):
        ours, theirs = step(first), step(second)
        np.testing.assert_array_equal(ours[2], theirs[2])
        np.testing.assert_array_equal(ours[0], theirs[0])


@pytest.mark.parametrize("steps", [14, 60, 1000])
def test_restarts_that_cannot_work_are_named(steps):
    config = load_config("prefrl/PointMass-v0", {"env": {"restart_every": steps}})
    message = "at least one clip of 15 steps and less than an episode of 60 steps, or 0, got"
    with pytest.raises(UserError, match=f"env.restart_every must be {message} {steps}"):
        check_inputs(config)


def test_every_copy_alike_by_default():
    config = EnvConfig("HalfCheetah-v5", copies=3)
    envs = TimedVecEnv(config, seed=0, stopwatch=Stopwatch())
    assert [env.spec.max_episode_steps for env in envs.envs] == [1000] * 3
