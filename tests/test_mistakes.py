"""Mistakes in environments of the user's own, there from the start or made after training."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import pytest
import yaml
from compare import SMALL, refused

import prefrl
from envs.point_mass import PointMassEnv
from prefrl.agent.trial import check_env
from prefrl.cli import main
from prefrl.config import EnvConfig
from prefrl.environment import make_env
from prefrl.errors import UserError
from prefrl.run import Run

OWN = """
import gymnasium as gym
from envs.point_mass import PointMassEnv
class Own(PointMassEnv):
    def __init__(self):
        super().__init__()
        self.steps = 0
        {init}
    def step(self, action):
        self.steps += 1
        o, r, te, tr, i = super().step(action)
        {step}
        return o, r, te, tr, i
gym.register(id=__name__ + "-v0", entry_point=Own, max_episode_steps={limit})
"""


def test_one_environment_for_all_copies(tmp_path, monkeypatch):
    one = PointMassEnv()
    gym.register("Single-v0", entry_point=lambda: one, max_episode_steps=60)
    with pytest.raises(UserError, match=r"^Single-v0 is the same object each time it is made: "):
        prefrl.train("Single-v0", preset="prefrl-PointMass-v0", out="run", quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("init", "step", "limit", "message"),
    [
        ("raise OSError('no licence')", "", 60, "cannot be made: OSError: no licence"),
        ("", "raise ValueError('exploded')", 60, "under random actions: ValueError: exploded"),
        ("", "o = o * float('nan')", 60, "observations that are not finite"),
        ("", "", 10, "episodes of 10 steps, shorter than one clip of 15"),
        ("self.action_space = gym.spaces.Discrete(3, start=1)", "action = 0", 60, "start at 0"),
        ("self.action_space = gym.spaces.Box(-float('inf'), 1)", "", 60, "unbounded actions"),
        (
            "self.action_space = gym.spaces.Box(0, 0, (2,))",
            "",
            60,
            "no room: they are all from 0 to",
        ),
        (
            "self.action_space = gym.spaces.Box(0, 3, (2,), 'int64')",
            "",
            60,
            "actions of type int64",
        ),
        ("def", "", 60, "cannot import 'own': SyntaxError"),
    ],
)
def test_bad_own_environment(tmp_path, capsys, monkeypatch, init, step, limit, message):
    text = OWN.format(init=init or "pass", step=step or "pass", limit=limit)
    module = f"own{abs(hash(text))}"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    error = refused(capsys, "train", f"{module}:{module}-v0", "--preset", "prefrl/PointMass-v0")
    assert message.replace("own", module) in error


@pytest.mark.parametrize(
    ("step", "oracle", "message"),
    [
        (
            "if self.steps > 400: raise ValueError('late')",
            "",
            "failed in an episode: ValueError: late",
        ),
        ("", "return clip.observations[:, 0] / (clip.step == 0)", "not finite"),
        ("", "return clip.observations[:, 0] if clip.step == 0 else late", "NameError"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value:RuntimeWarning")
def test_failure_while_running_is_a_sentence(tmp_path, capsys, step, oracle, message):
    text = OWN.format(init="pass", step=step or "pass", limit=60)
    module = f"own{abs(hash(text))}"
    (tmp_path / f"{module}.py").write_text(text)
    (tmp_path / "late.py").write_text(f"def score(clip):\n    {oracle}\n")
    arguments = ["train", f"{module}:{module}-v0", "--preset", "prefrl/PointMass-v0", "--quiet"]
    assert main([*arguments, *(["--oracle", "late.py:score"] if oracle else [])]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    (folder,) = Path("runs").iterdir()
    assert error == f"prefrl: {Run(folder).record['failure']}\n", "with how to go on"


def test_an_environment_whose_own_file_fails(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_file.py").write_text("undefined_name\n")
    gym.register("BrokenFile-v0", entry_point="broken_file:Env", max_episode_steps=60)
    error = refused(capsys, "train", "BrokenFile-v0")
    assert "cannot be made: NameError: name 'undefined_name' is not defined" in error


LAB = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces
def helper(value):
    return value
class Lab(gym.Env):
    metadata = {{"render_modes": ["rgb_array"], "render_fps": 30}}
    def __init__(self, render_mode=None):
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        {init}
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=self.observation_space.shape).astype(np.float32)
        {reset}
        return self.state.copy(), {{}}
    def step(self, action):
        self.state = self.state + np.float32(np.mean(action))
        {step}
        return self.state.copy(), float(self.state[0]), False, False, {{}}
    def close(self):
        {close}
    def render(self):
        return np.zeros((32, 32, 3), np.uint8)
gym.register("{id}", {entry}, max_episode_steps=60{more})
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Writes an environment of one's own, with what is to be otherwise; gives its id."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "small.yaml").write_text(
        "agent: {n_steps: 120, batch_size: 480}\nclips: {length: 5}\n"
        "labels: {until: 0.9, budget: 8}\nrun: {steps: 1920, evaluation_episodes: 2}\n"
    )

    def write(**otherwise: str) -> str:
        parts = dict.fromkeys(("init", "reset", "step", "close"), "pass")
        text = LAB.format(**parts | {"id": "Lab-v0", "entry": "Lab", "more": ""} | otherwise)
        (tmp_path / "labenv.py").write_text(text)
        sys.modules.pop("labenv", None)
        gym.registry.pop("Lab-v0", None)
        return "labenv:Lab-v0"

    yield write
    sys.modules.pop("labenv", None)
    gym.registry.pop("Lab-v0", None)


@pytest.mark.parametrize(
    ("otherwise", "message"),
    [
        ({"init": "del self.observation_space"}, "has no observation_space: its __init__ must set"),
        ({"init": "self.observation_space = (3,)"}, "must be one of gymnasium.spaces, got (3,)"),
        ({"init": "self.action_space = None"}, "action_space must be one of gymnasium.spaces"),
        ({"init": "self.metadata = {'render_fps': 'fast'}"}, "['render_fps'] must be its steps in"),
        ({"init": "self.metadata = {'render_fps': -1}"}, "steps in a second, got -1"),
        (
            {"init": "helper()"},
            "cannot be made: TypeError: helper() missing 1 required positional argument: 'value' "
            "(labenv.py, line 12)",
        ),
        (
            {"more": ", kwargs={'wind': 1}"},
            "does not take these arguments: Lab.__init__() got an unexpected keyword",
        ),
        ({"entry": "lambda: 5"}, "must inherit from the gymnasium.Env class"),
        ({"entry": "lambda: None"}, "must inherit from the gymnasium.Env class"),
        ({"reset": "return self.state"}, "reset must give (observation, info), and gives ndarray"),
        (
            {"step": "return self.state, 0.0, False"},
            "step must give (observation, reward, terminated, truncated, info), and gives a tuple",
        ),
        ({"step": "return None"}, "and gives NoneType"),
        ({"step": "return self.state, 0.0, False, False, None"}, "step gives must be a dict"),
        (
            {"step": "return self.state[:2], 0.0, False, False, {}"},
            "step gives an observation of shape (2,), but its observation_space has (3,)",
        ),
    ],
)
def test_a_mistake_is_named_before_the_run(lab, capsys, otherwise, message):
    assert message in refused(capsys, "train", lab(**otherwise), "--preset", "small.yaml")


def test_a_dict_that_is_flattened_is_none(lab):
    env_id = lab(
        init="self.observation_space = spaces.Dict(a=spaces.Box(-9, 9, (3,), np.float32))",
        reset="self.state = {'a': np.zeros(3, np.float32)}",
        step="pass",
        entry="lambda: gym.wrappers.FlattenObservation(Flat())",
    )
    Path("labenv.py").write_text(
        Path("labenv.py").read_text().replace("gym.register(", FLAT + "gym.register(")
    )
    assert check_env(EnvConfig(env_id), 5).observations.shape == (5, 3)


FLAT = """
class Flat(Lab):
    def reset(self, *, seed=None, options=None):
        return {"a": np.zeros(3, np.float32)}, {}
    def step(self, action):
        return {"a": np.ones(3, np.float32)}, 1.0, False, False, {}
"""


def test_arguments_that_it_does_not_take_are_told_from_those_of_its_own_calls(lab):
    assert make_env(EnvConfig(lab()))
    with pytest.raises(UserError, match="does not take these arguments"):
        make_env(EnvConfig(lab(), kwargs={"wind": 1}))
    with pytest.raises(UserError, match=r"cannot be made: TypeError: .*\(labenv.py, line 12\)"):
        make_env(EnvConfig(lab(init="super().__init__(1)")))


def test_what_fails_to_close_is_told_once_and_loses_nothing(lab, caplog):
    run = prefrl.train(
        lab(close="raise OSError('stuck')"), preset="small.yaml", out="run", quiet=True
    )
    assert run.record["result"]
    prefrl.evaluate(run, episodes=2)
    assert [r.getMessage() for r in caplog.records] == [
        "labenv:Lab-v0 fails to close: OSError: stuck (labenv.py, line 23)"
    ]


@pytest.fixture
def lab_run(lab: Callable[..., str]) -> Run:
    """A finished run in such an environment."""
    return prefrl.train(lab(), preset="small.yaml", out="run", quiet=True)


def go_on_from(run: Run) -> Run:
    """A run that is not finished, at that one's checkpoint."""
    shutil.copytree(run.path, "stopped")
    record = run.record | {"result": None}
    Path("stopped", "run.json").write_text(json.dumps(record))
    return Run("stopped")


CHANGES = {
    "self.action_space = spaces.Box(np.float32([-1, -2] * 20), 1)": "has actions Box([-1. -2. -1.",
    "self.observation_space = spaces.Box(-9, 9, (4,), np.float32)": "has observations Box(-9.0",
    "self.action_space = spaces.Box(-1, 1, (4,), np.float32)": "has actions Box(-1.0, 1.0, (4,)",
    "self.action_space = spaces.Box(-2, 2, (2,), np.float32)": "has actions Box(-2.0, 2.0, (2,)",
    "self.action_space = spaces.Discrete(2)": "has actions Discrete(2), but the run was trained",
}


@pytest.mark.parametrize("change", CHANGES)
def test_spaces_changed_after_training_are_named(lab, lab_run, change):
    stopped = go_on_from(lab_run)
    lab(init=change)
    for command in (
        lambda: prefrl.evaluate("run", episodes=2),
        lambda: prefrl.video("run", "out.mp4", seconds=0.2),
        lambda: prefrl.resume(stopped, quiet=True),
    ):
        with pytest.raises(UserError) as refusal:
            command()
        assert CHANGES[change] in str(refusal.value)
        assert "undo what was changed, or train anew" in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        "self.observation_space = spaces.Box(-9, 9, (3,), np.float32)",
        "self.action_space = spaces.Box(-1, 1, (2,), np.float64)",
    ],
)
def test_bounds_of_observations_and_types_decide_nothing(lab, lab_run, change):
    before = prefrl.evaluate(lab_run, episodes=2)
    stopped = go_on_from(lab_run)
    lab(init=change)
    assert prefrl.evaluate("run", episodes=2) == before
    assert prefrl.resume(stopped, quiet=True).record["result"]


@pytest.mark.parametrize("key", ["hidden: [32, 64]", "linear_path: true", "members: 4"])
def test_networks_configured_otherwise_after_training_are_named(lab_run, key):
    stopped = go_on_from(lab_run)
    for run in (lab_run, stopped):
        file = run.path / "config.yaml"
        tree = yaml.safe_load(file.read_text())
        tree["reward"] |= yaml.safe_load(key)
        file.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError, match="reward networks of another kind than the run's"):
        prefrl.evaluate("run", episodes=2)
    with pytest.raises(UserError, match=f"^reward.{key.partition(':')[0]} was .* in 'stopped'"):
        prefrl.resume("stopped", quiet=True)


def test_a_state_that_does_not_fit_any_more_is_named(monkeypatch):
    run = prefrl.train("prefrl/PointMass-v0", out="run", **SMALL)
    stopped = go_on_from(run)

    def restore(env, state):
        raise ValueError("of another model")

    monkeypatch.setattr("prefrl.agent.envs.restore", restore)
    with pytest.raises(UserError, match="PointMass-v0 cannot go on from where it was"):
        prefrl.resume(stopped, quiet=True)


def test_where_a_moved_oracle_is_can_be_said(tmp_path):
    """Its path is that of the run's start; the run, as where it was copied, may be elsewhere."""
    Path("score.py").write_text("def score(clip):\n    return clip.true_rewards\n")
    run = prefrl.train("prefrl/PointMass-v0", oracle="score.py:score", out="run", **SMALL)
    before = prefrl.evaluate(run, episodes=2)
    stopped = go_on_from(run)
    (tmp_path / "there").mkdir()
    Path("score.py").rename("there/score.py")
    for command in (lambda: prefrl.evaluate("run"), lambda: prefrl.resume(stopped, quiet=True)):
        with pytest.raises(UserError, match=r"if it was moved, .*config\.yaml', as labels\.oracle"):
            command()
    config = Path("run/config.yaml")
    config.write_text(config.read_text().replace("/score.py", "/there/score.py"))
    assert prefrl.evaluate("run", episodes=2) == before
