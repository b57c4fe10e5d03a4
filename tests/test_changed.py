"""What is changed in the config.yaml of a run on its way."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from compare import SMALL, refused

import prefrl
from prefrl.checkpoint import list_checkpoints
from prefrl.configfile import PRESETS
from prefrl.errors import UserError
from prefrl.run import Run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    preset = (PRESETS / "prefrl-PointMass-v0.yaml").read_text()
    often = folder / "often.yaml"
    often.write_text(preset.replace("run:", "run:\n  checkpoint_every: 960"))
    return prefrl.train("prefrl/PointMass-v0", preset=often, out=folder / "run", **SMALL)


@pytest.fixture
def change(whole):
    """Makes a run that was stopped, and changes a value in its config.yaml."""

    def change(section, key, value):
        shutil.copytree(whole.path, "run")
        record = json.loads(Path("run/run.json").read_text()) | {"result": None}
        Path("run/run.json").write_text(json.dumps(record))
        shutil.rmtree(list_checkpoints(Path("run/checkpoints"))[0])
        tree = yaml.safe_load(Path("run/config.yaml").read_text())
        tree[section][key] = value
        Path("run/config.yaml").write_text(yaml.safe_dump(tree))
        return Run("run")

    return change


@pytest.mark.parametrize(
    ("section", "key", "value", "was"),
    [
        ("agent", "learning_rate", 1e-05, 0.001),
        ("agent", "n_steps", 60, 120),
        ("agent", "net_arch", [32, 32], [64, 64]),
        ("clips", "capacity", 140, 150),
        ("clips", "length", 10, 15),
        ("env", "copies", 4, 8),
        ("reward", "members", 4, 3),
    ],
)
def test_what_a_checkpoint_was_made_by_stays(change, capsys, section, key, value, was):
    change(section, key, value)
    said = refused(capsys, "resume", "run", "--quiet")
    assert f"{section}.{key} was {was} in 'run' and is {value} now" in said
    assert "--preset run/config.yaml` trains anew" in said
    assert "--labels-from run/labels.db takes the answers along" in said


def test_where_a_change_makes_it_another_run_the_budget_holds_all_the_same(change):
    run = change("env", "restart_every", 20)
    resumed = prefrl.resume(run, quiet=True)
    assert resumed.record["result"]["labels_answered"] == 12
    assert Run("run").record["inexact_resumes"] == 1


def test_what_decides_nothing_may_change(change, whole):
    resumed = prefrl.resume(change("run", "evaluation_episodes", 2), quiet=True)
    assert "inexact_resumes" not in Run("run").record
    assert resumed.record["result"]["labels_answered"] == 12
    assert resumed.record["result"]["episodes"] == 2


def test_a_run_that_is_said_to_be_on_the_true_reward_and_was_not(change, tmp_path):
    run = change("run", "true_reward", True)
    with pytest.raises(UserError, match=r"run.true_reward was False in 'run' and is True now"):
        prefrl.resume(run, quiet=True)
    true = prefrl.train("prefrl/PointMass-v0", true_reward=True, out="true", steps=960, quiet=True)
    text = (true.path / "config.yaml").read_text()
    (true.path / "config.yaml").write_text(text.replace("true_reward: true", "true_reward: false"))
    with pytest.raises(UserError, match=r"is of a run on the true reward, which the run's config"):
        prefrl.evaluate("true")
