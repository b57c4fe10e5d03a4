import importlib
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from envs.point_mass import PointMassEnv
from prefrl.agent.trial import check_env
from prefrl.config import EnvConfig
from prefrl.environment import make_env
from prefrl.errors import RunFailed, UserError
from prefrl.registry import find_spec

FIXED = ["Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"]


@pytest.mark.parametrize("env_id", FIXED)
def test_unhealthy_environments_go_on(env_id):
    env = make_env(EnvConfig(env_id))
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(200):  # each of them falls within 100 random steps
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        assert not terminated
        assert not truncated
    env.close()


def test_allowed_termination_ends_episodes():
    env = make_env(EnvConfig("Hopper-v5", termination="allow"))
    env.reset(seed=0)
    env.action_space.seed(0)
    assert any(env.step(env.action_space.sample())[2] for _ in range(200))
    env.close()


def test_early_end_is_refused_with_the_flag_that_overrides_it():
    with pytest.raises(UserError, match=r"CartPole-v1 ends episodes early.*--allow-termination"):
        check_env(EnvConfig("CartPole-v1"), length=10)
    assert len(check_env(EnvConfig("CartPole-v1", termination="allow"), length=10)) == 10
    assert len(check_env(EnvConfig("CartPole-v1", termination="ignore"), length=10)) == 10


def act_until_the_end(env: gym.Env) -> None:
    for _ in range(200):
        env.step(0)


def test_early_end_that_the_probe_missed_fails_the_run():
    env = make_env(EnvConfig("CartPole-v1", termination="refuse"))
    env.reset(seed=0)
    for _ in range(5):
        env.step(0)
    with pytest.raises(RunFailed, match="--allow-termination"):
        act_until_the_end(env)
    env.close()


def test_unknown_ids_name_the_nearest():
    with pytest.raises(UserError, match="did you mean 'HalfCheetah-v"):
        find_spec("HalfCheeta-v5")
    with pytest.raises(UserError, match="did you mean 'prefrl/PointMass-v0'"):
        find_spec("prefrl/PointMas-v0")
    with pytest.raises(UserError, match="cannot import 'nowhere_at_all'"):
        find_spec("nowhere_at_all:Id-v0")


@pytest.mark.parametrize("options", [["-c"], ["-P", "-c"]], ids=["python -m", "a script"])
def test_the_projects_environments_are_found_beside_a_users_package_envs(options, tmp_path):
    """Whether or not the working directory comes first where modules are looked for."""
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text(
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import PendulumEnv\n"
        "gym.register(id='Mine-v0', entry_point=PendulumEnv, max_episode_steps=200)\n"
    )
    program = (
        "import sys\n"
        "from prefrl.config import EnvConfig\n"
        "from prefrl.environment import make_env\n"
        "print(type(make_env(EnvConfig(id=sys.argv[1])).unwrapped).__name__)\n"
    )
    for env_id, kind in (("prefrl/PointMass-v0", "PointMassEnv"), ("envs:Mine-v0", "PendulumEnv")):
        command = [sys.executable, *options, program, env_id]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == kind


OWN = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces

class Own(gym.Env):
    observation_space = {observations}
    action_space = spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {{}}
    def step(self, action):
        return self.observation_space.sample(), float(action), False, False, {{"chosen": action}}

gym.register(id="{id}", entry_point=Own, max_episode_steps={limit})
"""


def write_own(tmp_path, module, observations, limit=30):
    text = OWN.format(observations=observations, id=f"{module}-v0", limit=limit)
    (tmp_path / f"{module}.py").write_text(text)
    return f"{module}:{module}-v0"


def test_own_environment_is_imported_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    env_id = write_own(tmp_path, "own_flat", "spaces.Box(-1, 1, (3,))")
    clip = check_env(EnvConfig(env_id), length=20)
    assert clip.observations.shape == (20, 3)
    assert clip.actions.shape == (20, 2)
    assert sys.path[-1] == str(tmp_path), "where it stands in the way of no other"


def test_what_an_own_environment_names_is_found_when_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "vendored.py").write_text("LIMIT = 30\n")
    write_own(tmp_path, "own_late", "spaces.Box(-1, 1, (3,))")
    (tmp_path / "own_names.py").write_text(
        "import sys\n\nimport gymnasium as gym\n\nsys.path.insert(0, 'vendor')\n"
        "gym.register('LateNamed-v7', entry_point='own_late:Own', max_episode_steps=30)\n"
    )
    assert len(check_env(EnvConfig("own_names:LateNamed-v7"), length=20)) == 20
    assert importlib.import_module("vendored").LIMIT == 30


@pytest.mark.parametrize(
    ("observations", "limit", "message"),
    [
        ("spaces.Dict(a=spaces.Box(-1, 1, (3,)))", 30, "only flat Box observations"),
        ("spaces.Box(0, 255, (8, 8, 3), np.uint8)", 30, "only flat Box observations"),
        ("spaces.Box(-1, 1, (3,))", None, "no time limit"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_unsupported_environments_are_refused(tmp_path, observations, limit, message):
    module = f"own_{abs(hash((observations, limit)))}"
    env_id = write_own(tmp_path, module, observations, limit)
    with pytest.raises(UserError, match=message):
        check_env(EnvConfig(env_id), length=20)


def test_unsupported_actions_are_refused(tmp_path):
    text = OWN.replace("spaces.Discrete(2)", "spaces.MultiBinary(2)")
    text = text.format(observations="spaces.Box(-1, 1, (3,))", id="own_multi-v0", limit=30)
    (tmp_path / "own_multi.py").write_text(text)
    with pytest.raises(UserError, match="has actions MultiBinary"):
        check_env(EnvConfig("own_multi:own_multi-v0"), length=5)


def test_state_dependent_exploration_needs_box_actions():
    with pytest.raises(UserError, match=r"explores in Box actions.*CartPole-v1 has Discrete"):
        check_env(EnvConfig("CartPole-v1", termination="allow"), length=5, continuous=True)
    assert len(check_env(EnvConfig("Pendulum-v1"), length=5, continuous=True)) == 5


def test_wrong_arguments_are_the_users_mistake():
    with pytest.raises(UserError, match="does not take these arguments"):
        make_env(EnvConfig("Pendulum-v1", kwargs={"gravity": 3}))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize(
    ("name", "steps"), [("PointMass", 60), ("HopperBackflip", 300), ("HalfCheetahOneLeg", 300)]
)
def test_our_own_pass_both_checks(name, steps):
    env = gym.make(f"prefrl/{name}-v0", render_mode="rgb_array", width=64, height=48)
    gymnasium_check(env.unwrapped, skip_render_check=True)  # it would open a window
    sb3_check(env.unwrapped)
    env.reset(seed=0)
    assert env.render().shape == (48, 64, 3)
    assert env.spec.max_episode_steps == steps
    env.close()


def test_point_mass_moves_as_documented():
    env = PointMassEnv()
    env.reset(seed=0)
    env.state = np.array([0.95, 0.0, 0.0, 0.5])
    observation, reward, *_ = env.step(np.array([1.0, -1.0]))
    # v = (0, 0.5) + 0.1 s * (force - 2 v) and x = 0.95 + 0.1 s * 0.1 m/s.
    np.testing.assert_allclose(observation, [0.96, 0.03, 0.1, 0.3], rtol=1e-6)
    assert reward == pytest.approx(0.1)
    env.state = np.array([0.99, 0.0, 0.5, 0.0])
    observation, *_ = env.step(np.array([1.0, 0.0]))
    assert observation[0] == pytest.approx(-0.96), "the plane begins again where it ends"


def test_point_mass_best_return_is_reached_by_full_force():
    env = gym.make("prefrl/PointMass-v0")
    env.reset(seed=0)
    total, truncated = 0.0, False
    while not truncated:
        _, reward, _, truncated, _ = env.step(np.array([1.0, 0.0], np.float32))
        total += reward
    assert total == pytest.approx(PointMassEnv.BEST_RETURN)
    env.close()


def test_point_mass_is_drawn_where_it_is():
    env = PointMassEnv(render_mode="rgb_array", width=100, height=80)
    env.reset(seed=0)
    env.state = np.array([0.5, 0.5, 0.0, 0.0])
    frame = env.render()
    assert frame.shape == (80, 100, 3)
    rows, columns = np.nonzero((frame == (213, 94, 0)).all(axis=-1))
    assert columns.mean() == pytest.approx(50 + 20, abs=1)
    assert rows.mean() == pytest.approx(40 - 20, abs=1)


class Cut(gym.Env):
    """Calls an early end `truncated`."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), 0.0, False, self.steps == 5, {}


def test_an_early_end_is_one_whatever_it_is_called():
    gym.register("Cut-v0", entry_point=Cut, max_episode_steps=15)
    with pytest.raises(UserError, match=r"Cut-v0 ends episodes early \(after 5 random steps\)"):
        check_env(EnvConfig("Cut-v0"), length=3)
    env = make_env(EnvConfig("Cut-v0", termination="ignore"))
    env.reset()
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(15)]
    assert ends == [(False, False)] * 14 + [(False, True)]
    gym.register("Whole-v0", entry_point=Cut, max_episode_steps=5)
    assert len(check_env(EnvConfig("Whole-v0"), length=3)) == 3


@pytest.mark.parametrize(("length", "told"), [(100, True), (50, False)])
def test_episodes_shorter_than_a_clip_are_told_of(caplog, length, told):
    check_env(EnvConfig("CartPole-v1", termination="allow"), length)
    check_env(EnvConfig("CartPole-v1", termination="ignore"), length, asks=True)
    assert not caplog.text, "where nobody is asked about them, or the copies act on"
    check_env(EnvConfig("CartPole-v1", termination="allow"), length, asks=True)
    assert ("CartPole-v1 ends its episodes before the 100 steps" in caplog.text) == told


def test_a_new_version_without_a_limit_is_not_called_old():
    gym.register("Versioned-v0", PointMassEnv, max_episode_steps=60)
    gym.register("Versioned-v1", PointMassEnv)
    with pytest.raises(UserError, match="Versioned-v1 has no time limit"):
        find_spec("Versioned-v1")
    gym.register("Versioned-v2", PointMassEnv, max_episode_steps=60)
    with pytest.raises(UserError, match="is of an old version: take Versioned-v2"):
        find_spec("Versioned-v1")
