import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import prefrl
from prefrl.agent.pool import PoolVecEnv
from prefrl.checkpoint import list_checkpoints
from prefrl.clips.render import Renderer
from prefrl.clips.simulator import write_state
from prefrl.clock import Stopwatch
from prefrl.config import EnvConfig
from prefrl.environment import make_drawable, make_env
from prefrl.errors import UserError


@pytest.fixture
def pooled():
    """Makes pools of environments."""
    pools = []

    def make(env_id: str, copies: int = 2, seed: int = 3, **options: object) -> PoolVecEnv:
        options = {"termination": "ignore", "threads": 2} | options
        config = EnvConfig(env_id, copies=copies, **options)
        pools.append(PoolVecEnv(config, seed=seed, stopwatch=Stopwatch()))
        pools[-1].reset()
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def states_of(pool: PoolVecEnv) -> np.ndarray:
    states = np.zeros((pool.num_envs, pool.state_dim))
    pool.read_states(states)
    return states


# Contacts are chaotic: after a few steps, rounding decides where an ant is.
@pytest.mark.parametrize(
    ("env_id", "kwargs", "steps", "tolerance"),
    [
        ("HalfCheetah-v5", {}, 40, 1e-6),
        ("Hopper-v5", {}, 40, 1e-6),
        ("Walker2d-v5", {}, 40, 1e-6),
        ("Swimmer-v5", {}, 40, 1e-6),
        ("Ant-v5", {}, 3, 1e-3),
        ("Ant-v5", {"include_cfrc_ext_in_observation": False}, 3, 1e-3),
    ],
)
def test_its_environments_are_those_of_gymnasium(pooled, env_id, kwargs, steps, tolerance):
    pool = pooled(env_id, kwargs=kwargs)
    env = make_env(EnvConfig(env_id, termination="ignore", kwargs=kwargs))
    env.reset(seed=0)
    write_state(env, states_of(pool)[0])
    space = env.action_space
    assert (pool.observation_space, pool.action_space) == (env.observation_space, space)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        actions = rng.uniform(space.low, space.high, (2, *space.shape))
        observations, rewards, done, infos = pool.step(actions)
        expected, reward, _, _, info = env.step(actions[0])
        np.testing.assert_allclose(observations[0], expected, atol=tolerance)
        assert rewards[0] == pytest.approx(reward, abs=tolerance)
        assert {"x_position", "x_velocity"} <= set(infos[0]) <= set(info)
        assert infos[0] == {k: pytest.approx(info[k], abs=tolerance) for k in infos[0]}
        assert not done.any()
    env.close()


def test_same_seed_same_episodes_whatever_the_threads(pooled):
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (30, 4, 3))
    seen = []
    for seed, threads in ((3, 1), (3, 2), (4, 2)):
        pool = pooled("Hopper-v5", copies=4, seed=seed, threads=threads)
        seen.append(np.stack([pool.step(a)[0] for a in actions]))
    assert (seen[0] == seen[1]).all()
    assert (seen[0] != seen[2]).any()
    assert (seen[0][:, 0] != seen[0][:, 1]).any()


def test_episode_that_is_over_begins_anew_as_sb3_expects_it(pooled):
    pool = pooled("HalfCheetah-v5", kwargs={"max_episode_steps": 3})
    for round in range(2):
        total = 0.0
        for step in range(3):
            observations, rewards, done, infos = pool.step(np.full((2, 6), 0.5))
            total += rewards[0]
            assert done.all() == (step == 2)
        assert infos[0]["TimeLimit.truncated"]
        assert infos[0]["episode"] == {"r": pytest.approx(total, abs=1e-5), "l": 3}, round
        assert (infos[0]["terminal_observation"] != observations[0]).any()
        assert states_of(pool)[0, 1] == pytest.approx(0, abs=0.2), "back at the start"
        np.testing.assert_array_equal(observations[0], states_of(pool)[0, 2:])


def test_allowed_termination_ends_one_episode_and_not_its_neighbour(pooled):
    pool = pooled("Hopper-v5", termination="allow", copies=2)
    actions = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    for _ in range(200):
        before = states_of(pool)
        _, _, done, infos = pool.step(actions)
        if done.any():
            break
    assert done.sum() == 1
    ended = int(np.flatnonzero(done)[0])
    assert not infos[ended]["TimeLimit.truncated"]
    after = states_of(pool)
    assert after[ended, 2] == pytest.approx(1.25, abs=0.01), "upright again"
    assert np.abs(after[1 - ended] - before[1 - ended]).max() < 2, "the other goes on"
    assert "episode" not in infos[1 - ended]


@pytest.mark.filterwarnings("ignore:.*precision lowered")  # of EnvPool's own spaces
def test_discrete_actions(pooled):
    pool = pooled("CartPole-v1", termination="allow")
    assert pool.state_dim == 0
    observations, rewards, _, _ = pool.step(np.array([0, 1]))
    assert observations.shape == (2, 4)
    assert rewards.tolist() == [1, 1]


PRESET = """
env: {backend: envpool, termination: ignore, copies: 4}
agent: {n_steps: 128, batch_size: 128, n_epochs: 1}
clips: {length: 25}
run: {checkpoint_every: 2048, evaluation_episodes: 2}
"""


def test_run_learns_from_clips_that_can_be_drawn_and_goes_on_with_new_episodes(tmp_path, capsys):
    Path("pool.yaml").write_text(PRESET)
    run = prefrl.train("Hopper-v5", labels=20, steps=6144, preset="pool.yaml", out="run")
    assert run.record["result"]["labels_answered"] == 20
    clip = run.labels.clip(1)
    np.testing.assert_allclose(clip.states[:, 2:7], clip.observations[:, :5], atol=1e-6)
    env = make_drawable(EnvConfig("Hopper-v5", termination="ignore"), 96, 64)
    env.reset(seed=0)
    renderer = Renderer(env)
    assert (renderer.draw(clip.states[0]) != renderer.draw(clip.states[-1])).any()
    env.close()
    run.path.joinpath("run.json").write_text(json.dumps(run.record | {"result": None}))
    latest, _ = list_checkpoints(run.checkpoints)
    shutil.rmtree(latest)
    capsys.readouterr()
    resumed = prefrl.resume("run")
    assert "its episodes start anew" in " ".join(capsys.readouterr().err.split())
    assert resumed.record["result"]["labels_answered"] == 20


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("prefrl/PointMass-v0", {}, "EnvPool has no prefrl/PointMass-v0: leave env.backend"),
        ("Hopper-v5", {"kwargs": {"healthy_z_range": [0, 1]}}, "no argument 'healthy_z_range'"),
    ],
)
def test_what_it_does_not_have_is_refused(env_id, options, message):
    with pytest.raises(UserError, match=message):
        PoolVecEnv(EnvConfig(env_id, **options), seed=0, stopwatch=Stopwatch())


def refused(env_id: str, **sections: dict) -> str:
    """The sentence with which a run on EnvPool is refused before anything is written."""
    settings = {"env": {"backend": "envpool", "termination": "ignore"}} | sections
    Path("pool.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError) as refusal:
        prefrl.train(env_id, preset="pool.yaml", out="run", quiet=True)
    assert not Path("run").exists()
    return str(refusal.value)


def test_run_that_it_cannot_do_is_refused_before_it_starts(monkeypatch):
    assert "cannot go on in it" in refused("InvertedPendulum-v5")
    monkeypatch.setenv("DISPLAY", ":0")
    assert "nobody could watch" in refused("Reacher-v5", labels={"labeller": "human"})
    monkeypatch.setitem(sys.modules, "envpool", None)
    assert "pip install 'prefrl[envpool]'" in refused("Hopper-v5")
