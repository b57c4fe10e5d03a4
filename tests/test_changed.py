"""What is changed in a run before it goes on."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from compare import SMALL, assert_same_run, refused

import prefrl
from prefrl.changes import is_another_run, what_it_is
from prefrl.checkpoint import list_checkpoints
from prefrl.configfile import PRESETS, load_config
from prefrl.errors import UserError
from prefrl.files import write_json
from prefrl.run import Run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    preset = (PRESETS / "prefrl-PointMass-v0.yaml").read_text()
    often = folder / "often.yaml"
    often.write_text(preset.replace("run:", "run:\n  checkpoint_every: 960"))
    return prefrl.train("prefrl/PointMass-v0", preset=often, out=folder / "run", **SMALL)


@pytest.fixture
def stop(whole):
    """Makes a run that was stopped at its last checkpoint but one, or before its first."""

    def stop(*, early=False):
        shutil.copytree(whole.path, "run")
        record = json.loads(Path("run/run.json").read_text()) | {"result": None}
        Path("run/run.json").write_text(json.dumps(record))
        for checkpoint in list_checkpoints(Path("run/checkpoints"))[: 2 if early else 1]:
            shutil.rmtree(checkpoint)

    return stop


def change(section, key, value):
    """Write a value into the config.yaml of the run."""
    tree = yaml.safe_load(Path("run/config.yaml").read_text())
    tree[section][key] = value
    Path("run/config.yaml").write_text(yaml.safe_dump(tree))


@pytest.mark.parametrize(
    ("section", "key", "value", "was"),
    [
        ("agent", "learning_rate", 1e-05, 0.001),
        ("agent", "n_steps", 60, 120),
        ("agent", "net_arch", [32, 32], [64, 64]),
        ("clips", "capacity", 140, 150),
        ("env", "copies", 4, 8),
        ("reward", "learning_rate", 0.01, 0.001),
        ("reward", "members", 4, 3),
    ],
)
def test_what_a_checkpoint_was_made_by_stays(stop, capsys, section, key, value, was):
    stop()
    change(section, key, value)
    said = refused(capsys, "resume", "run", "--quiet")
    assert f"{section}.{key} was {was} in 'run' and is {value} now" in said
    assert "--preset run/config.yaml` trains anew" in said
    assert "--labels-from run/labels.db takes the answers along" in said


@pytest.mark.parametrize("early", [False, True])
def test_what_clips_are_made_by_stays_and_no_answers_about_others_are_taken_along(
    stop, capsys, early
):
    stop(early=early)
    change("clips", "length", 10)
    said = refused(capsys, "resume", "run", "--quiet")
    assert "clips.length was 15 in 'run' and is 10 now" in said
    assert said.endswith("trains anew\n")


@pytest.mark.parametrize(
    ("early", "section", "key", "value"),
    [
        (False, "env", "restart_every", 20),
        (True, "env", "restart_every", 20),
        (True, "agent", "learning_rate", 0.005),
    ],
)
def test_where_a_change_makes_it_another_run_the_budget_holds_all_the_same(
    stop, early, section, key, value
):
    stop(early=early)
    change(section, key, value)
    resumed = prefrl.resume("run", quiet=True)
    assert resumed.record["result"]["labels_answered"] == 12
    assert Run("run").record["inexact_resumes"] == 1


def test_what_decides_nothing_may_change(stop, whole):
    stop()
    change("run", "evaluation_episodes", 2)
    resumed = prefrl.resume("run", quiet=True)
    assert "inexact_resumes" not in Run("run").record
    assert resumed.record["result"]["episodes"] == 2
    assert_same_run(whole, resumed)


def test_once_a_change_is_in_a_checkpoint_it_is_none(stop):
    stop()
    change("env", "restart_every", 20)
    run = prefrl.resume("run", quiet=True)
    run.finish(None)
    prefrl.resume("run", quiet=True)
    assert Run("run").record["inexact_resumes"] == 1


def test_a_run_that_is_said_to_be_on_the_true_reward_and_was_not(stop):
    stop()
    change("run", "true_reward", True)
    with pytest.raises(UserError, match=r"run.true_reward was False in 'run' and is True now"):
        prefrl.resume("run", quiet=True)
    true = prefrl.train("prefrl/PointMass-v0", true_reward=True, out="true", steps=960, quiet=True)
    text = (true.path / "config.yaml").read_text()
    (true.path / "config.yaml").write_text(text.replace("true_reward: true", "true_reward: false"))
    with pytest.raises(UserError, match=r"is of a run on the true reward, which the run's config"):
        prefrl.evaluate("true")


ORACLES = "def right(clip): return clip.true_rewards\ndef left(clip): return -clip.true_rewards\n"


@pytest.fixture
def another(tmp_path):
    """Whether a run that was noted with some sections is another with others."""

    def another(then, now):
        run = Run.create(tmp_path / "noted", load_config("prefrl/PointMass-v0", now))
        noted = what_it_is(load_config("prefrl/PointMass-v0", then))
        shutil.rmtree(run.path)
        return is_another_run(run, noted, anew=False)

    return another


def test_an_oracle_may_lie_elsewhere_but_be_no_other(another):
    for name in ("one", "moved"):
        Path(f"{name}.py").write_text(ORACLES)
    then = {"labels": {"oracle": "one.py:right"}}
    assert not another(then, {"labels": {"oracle": "moved.py:right"}})
    assert another(then, {"labels": {"oracle": "one.py:left"}})
    assert another(then, {})
    assert another({}, {"query": {"rule": "random"}})
    noted = {"labels": {"oracle": "one.py:right"}}
    Path("moved.py").write_text(ORACLES + "# mended\n")
    assert another(noted, {"labels": {"oracle": "moved.py:right"}})


def test_what_a_run_has_no_use_for_makes_it_no_other(another):
    true = {"run": {"true_reward": True}}
    assert not another(true, true | {"clips": {"capacity": 99}, "labels": {"budget": 9}})
    assert another(true, true | {"env": {"restart_every": 20}})
    Path("score.py").write_text(ORACLES)
    human = {"labels": {"labeller": "human"}}
    scored = {"labels": {"labeller": "human", "oracle": "score.py:right"}}
    assert not another(human, scored)


def test_numbers_that_json_has_no_word_for_are_noted_as_they_are(another):
    kwargs = {"env": {"kwargs": {"range": [0.2, float("inf")], 3: float("nan")}}}
    config = load_config("prefrl/PointMass-v0", kwargs)
    write_json(Path("trainer.json"), what_it_is(config))
    assert not another(kwargs, kwargs)
    assert another(kwargs, {"env": {"kwargs": {"range": [0.3, float("inf")], 3: float("nan")}}})
