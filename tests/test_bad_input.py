"""Bad input to the command line: one sentence, exit code 2, nothing written."""

import contextlib
import re
import shutil
import sqlite3
from pathlib import Path

import gymnasium as gym
import pytest
from compare import point_mass_clip, refused

import prefrl
from envs.point_mass import PointMassEnv
from prefrl.checks import check_start
from prefrl.cli import main
from prefrl.configfile import load_config
from prefrl.errors import UserError
from prefrl.labels.store import LabelStore


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "HalfCheeta-v5"], "unknown environment 'HalfCheeta-v5': did you mean"),
        (["train", "prefrl/PointMas-v0"], "did you mean 'prefrl/PointMass-v0'"),
        (["train", "Ant-v5", "--preset", "Ant"], "unknown preset 'Ant': did you mean 'Ant-v5'"),
        (["train", "Mine-v0"], "(one of your own is my_module:Mine-v0)"),
        (["train", "mine.py:Mine-v0"], "not its file: in the folder of mine.py, 'mine:Mine-v0'"),
        (["train", "./mine:Mine-v0"], "not its file: in the folder of mine.py, 'mine:Mine-v0'"),
        (["train", "mine:Mine-v0"], "there is none: run this in the folder of mine.py, or install"),
        (["train", "Ant-v9"], "unknown environment 'Ant-v9': did you mean 'Ant-v5'"),
        (["train", "Ant-v5", "--labels", "0"], "labels must be at least 1"),
        (["train", "Ant-v5", "--steps", "-3"], "steps must be from 1 to 1e+10"),
        (["train", "Ant-v5", "--steps", "1e308"], "steps must be from 1 to 1e+10"),
        (["train", "Ant-v5", "--steps", "5e3"], "room for 0 labels: train for some "),
        (["train", "Ant-v5", "--labels", "1e20"], "ask for fewer labels, or train for more steps"),
        (["train", "Hopper-v3"], "Hopper-v3 is of an old version: take Hopper-v5"),
        (["train", "Ant-v5", "--out", ""], "--out is empty: name a folder"),
        (["train", "./:Mine-v0"], "cannot import './'"),
        (["train", "Ant-v5", "--query", "disagree"], "did you mean 'disagreement'"),
        (["train", "Ant-v5", "--teacher", "orakel"], "did you mean 'oracle'"),
        (["train", "Ant-v5", "--oracle", "no.py:f"], "oracle file 'no.py' does not exist"),
        (["train", "Ant-v5", "--oracle", ""], "--oracle is empty"),
        (["train", "Ant-v5", "--preset", "x" * 300], "File name too long"),
        (["train", "Ant-v5", "--labels-from", "no.db"], "'no.db' does not exist"),
        (["train", "Ant-v5", "--labels-from", ""], "--labels-from is empty"),
        (["train", "Ant-v5", "--labels-from", "."], "'.' is a folder: give 'labels.db'"),
        (["train", "Ant-v5", "--labeller", "none"], "add --labels-from"),
        (["train", "CartPole-v1"], "--allow-termination"),
        *(
            (["train", f"prefrl/{name}-v0", "--allow-termination"], "never ends one early")
            for name in ("HopperBackflip", "HalfCheetahOneLeg", "PointMass")
        ),
        (["train", "Ant-v5", "--out", "/proc/nowhere"], "cannot make the run folder"),
        (["train", "Ant-v5", "--out", "b\udce9d"], r"name 'b\udce9d' is not UTF-8"),
        (["evaluate", "nowhere"], "'nowhere' is not a run folder"),
        (["resume", "nowhere"], "'nowhere' is not a run folder"),
        (["video", "nowhere"], "'nowhere' is not a run folder"),
        (["report", "nowhere"], "'nowhere' is not a run folder"),
    ],
)
def test_bad_input(capsys, arguments, message):
    assert message in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "Ant-v5", "--labels", "1.5"],
            "argument --labels: '1.5' is not a whole number; ",
        ),
        (["trian", "Ant-v5"], "invalid choice: 'trian'"),
        (["label"], "arguments are required: RUN; `prefrl label --help` lists what there is"),
    ],
)
def test_a_command_that_cannot_be_read_is_answered_in_one_sentence(capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith("prefrl: ")
    assert message in error
    assert error.count("\n") == 1


def test_no_limit_of_the_users_is_the_one_that_is_registered():
    sections = {"clips": {"length": 70}, "env": {"kwargs": {"max_episode_steps": None}}}
    with pytest.raises(UserError, match=r"has episodes of 60 steps, shorter than one clip of 70"):
        check_start(load_config("prefrl/PointMass-v0", sections))


@pytest.mark.parametrize(
    ("overrides", "fit"),
    [  # in each of 28 rollouts, 8 copies give 64 clips
        ({}, 896),
        ({"clips": {"capacity": 5}}, 56),
        ({"clips": {"length": 40, "capacity": 1000}}, 224),  # one in each episode of 60 steps
        ({"clips": {"length": 25, "capacity": 1000}, "env": {"restart_every": 45}}, 374),
    ],
)
def test_more_labels_than_the_clips_have_room_for(overrides, fit):
    clips = overrides.get("clips", {})
    overrides = overrides | {"clips": {"capacity": 150} | clips, "query": {"batch": 1}}
    check_start(load_config("prefrl/PointMass-v0", overrides | {"labels": {"budget": fit}}))
    overrides |= {"labels": {"budget": fit + 1}}
    with pytest.raises(UserError, match=f"give room for {fit} labels: ask for fewer") as refusal:
        check_start(load_config("prefrl/PointMass-v0", overrides))
    enough = int(re.search(r"for some ([\d,]+) steps", str(refusal.value))[1].replace(",", ""))
    check_start(load_config("prefrl/PointMass-v0", overrides | {"run": {"steps": enough}}))
    less = load_config("prefrl/PointMass-v0", overrides | {"run": {"steps": int(0.85 * enough)}})
    with pytest.raises(UserError, match="give room"):
        check_start(less)


def test_an_environment_is_named_by_its_id():
    with pytest.raises(UserError, match=r"^give an environment's id, such as 'Hopper-v5', not <"):
        prefrl.train(PointMassEnv())


def test_unknown_renderer(capsys, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "eggl")
    assert "MUJOCO_GL is 'eggl': set it to egl" in refused(capsys, "info")


def test_existing_out_is_not_touched(tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    error = refused(capsys, "train", "prefrl/PointMass-v0", "--out", "taken")
    assert error.endswith("'taken' exists already: give another --out\n")


def test_an_empty_folder_is_as_good_as_none(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    prefrl.Run.create(tmp_path / "mine", load_config("prefrl/PointMass-v0", {}))
    error = refused(capsys, "train", "prefrl/PointMass-v0", "--out", "mine")
    assert error.endswith("'mine' exists already: give another --out, or `prefrl resume mine`\n")


def test_what_has_no_checkpoint_yet_is_not_said_to_be_lost(tmp_path, capsys):
    prefrl.Run.create(tmp_path / "a run", load_config("prefrl/PointMass-v0", {}))
    for command in ("evaluate", "video"):
        assert "`prefrl resume 'a run'` goes on" in refused(capsys, command, "a run")


def test_a_constant_oracle_is_asked_no_more_after_its_first_batch(tmp_path, capsys):
    (tmp_path / "flat.py").write_text("def flat(clip):\n    return 0 * clip.true_rewards\n")
    arguments = ["train", "prefrl/PointMass-v0", "--labels", "40", "--oracle", "flat.py:flat"]
    assert main([*arguments, "--out", "flat", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("prefrl: all 11 pairs of the first batch are ties")
    assert error.count("\n") == 1
    store = LabelStore("flat/labels.db", read_only=True)
    assert store.count_asked() == store.count_answered() == 11
    store.close()
    assert "no checkpoint, for it failed: all 11 pairs" in refused(capsys, "evaluate", "flat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agent: {gama: 0.9}", "unknown key 'agent.gama': did you mean 'gamma'"),
        ("agnt: {gamma: 0.9}", "unknown section 'agnt': did you mean 'agent'"),
        ("agent: {activation: Relu}", "unknown activation 'Relu': did you mean 'ReLU'"),
        ("agent: {batch_size: 100}", "batch_size must divide one rollout"),
        ("env: {id: Ant-v5}", "the preset is for Ant-v5, not for Pendulum-v1"),
        ("reward: {hidden: 64}", "reward.hidden must be list, got 64"),
        ("env: {kwargs: {max_episode_steps: '300'}}", "a whole number of steps, got '300'"),
    ],
)
def test_bad_preset(tmp_path, capsys, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    error = refused(capsys, "train", "Pendulum-v1", "--preset", "mine.yaml", "--labels", "50")
    assert message in error


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1.0", "must have shape (15,)"),
        ("return clip.true_rewards * float('nan')", "not finite: nan"),
        (
            "return clip.infos['height']",
            "KeyError: 'height' (mine.py, line 2); clip.infos has x_velocity, y_velocity",
        ),
        ("raise ValueError('one\\ntwo')", "fails on a clip: ValueError: one two"),
        ("return clip.true_rewards * 1j", "must be real numbers"),
        ("clip.observations[:] = 0", "ValueError: assignment destination is read-only"),
        ("clip.infos['x_velocity'][:] = 0", "is read-only"),
    ],
)
def test_bad_oracle(tmp_path, capsys, body, message):
    (tmp_path / "mine.py").write_text(f"def score(clip):\n    {body}\n")
    error = refused(capsys, "train", "prefrl/PointMass-v0", "--oracle", "mine.py:score")
    assert message in error


def test_labels_from_another_environment(point_mass_run, capsys):
    source = str(point_mass_run.path / "labels.db")
    error = refused(capsys, "train", "Pendulum-v1", "--labels-from", source)
    assert "is of prefrl/PointMass-v0 with clips (15, 6), this run is of Pendulum-v1" in error


def test_labels_from_an_empty_store(tmp_path, capsys):
    LabelStore(tmp_path / "empty.db").close()
    error = refused(capsys, "train", "prefrl/PointMass-v0", "--labels-from", "empty.db")
    assert "'empty.db' has none" in error


def test_labels_from_a_store_of_skips_alone(capsys):
    store = LabelStore("skips.db")
    query = store.ask(point_mass_clip(0), point_mass_clip(1), step=1, rule="random")
    store.answer(query, "skip", labeller="ada", seconds=1, step=1)
    store.close()
    options = ["--labels-from", "skips.db", "--labeller", "none"]
    error = refused(capsys, "train", "prefrl/PointMass-v0", *options)
    assert "'skips.db' has none to learn from: all 1 are skip" in error


@pytest.mark.parametrize("version", [0, 2])
def test_labels_from_a_foreign_file_leaves_it_alone(capsys, version):
    with contextlib.closing(sqlite3.connect("foreign.db")) as db:
        db.execute("CREATE TABLE mine (x)")
        db.execute(f"PRAGMA user_version = {version}")
    before = Path("foreign.db").read_bytes()
    error = refused(capsys, "train", "prefrl/PointMass-v0", "--labels-from", "foreign.db")
    assert "'foreign.db' is not a label store" in error
    assert Path("foreign.db").read_bytes() == before


DAMAGES = {
    "cut off": (lambda file: file[: len(file) // 2], ["report", "run"]),
    "pages": (lambda file: file[:4096] + b"x" * (len(file) - 4096), ["report", "run"]),
    "clips": (
        lambda file: file.replace(b"PK\3\4", b"xxxx"),
        ["train", "prefrl/PointMass-v0", "--labeller", "none", "--labels-from", "run/labels.db"],
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_labels_are_said_in_a_sentence(point_mass_run, capsys, name):
    damage, command = DAMAGES[name]
    shutil.copytree(point_mass_run.path, "run")
    path = Path("run/labels.db")
    path.write_bytes(damage(path.read_bytes()))
    assert main(command)
    _, err = capsys.readouterr()
    assert err.startswith("prefrl: ")
    assert err.count("\n") == 1
    assert "malformed" in err


def test_run_of_a_newer_version(tmp_path, capsys):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "run.json").write_text('{"format": 99}')
    assert "upgrade prefrl" in refused(capsys, "evaluate", "new")
    (tmp_path / "new" / "run.json").write_text('{"format": ')
    assert "run.json cannot be read" in refused(capsys, "evaluate", "new")


def test_bad_numbers_for_a_finished_run(point_mass_run, capsys):
    run = str(point_mass_run.path)
    assert "episodes must be at least 1" in refused(capsys, "evaluate", run, "--episodes", "0")
    assert "seconds must be above 0" in refused(capsys, "video", run, "--seconds", "nan")
    assert "cannot write '.'" in refused(capsys, "label", run, "--export", "")
    for bad in ("3", 2.5, 0):
        with pytest.raises(UserError, match=f"at least 1, and whole, got {bad!r}"):
            prefrl.evaluate(run, episodes=bad)
    with pytest.raises(UserError, match="above 0 and at most 600, got '3'"):
        prefrl.video(run, seconds="3")
    assert "cannot write '/proc/x.mp4'" in refused(
        capsys, "video", run, "/proc/x.mp4", "--seconds", "0.2"
    )


def test_labels_left_unasked_are_told_of(tmp_path, caplog):
    class Brief(PointMassEnv):
        """Every episode ends after 20 steps, so that clips of 15 leave a quarter of them out."""

        metadata = PointMassEnv.metadata | {"fixed_horizon": False}

        def step(self, action):
            observation, reward, *_, info = super().step(action)
            self.taken = getattr(self, "taken", 0) + 1
            return observation, reward, self.taken % 20 == 0, False, info

    gym.register("Brief-v0", Brief, max_episode_steps=60)
    overrides = {"labels": 110, "steps": 3840, "allow_termination": True, "quiet": True}
    (tmp_path / "brief.yaml").write_text(
        "agent: {n_steps: 120, batch_size: 240}\nclips: {length: 15}\nlabels: {until: 1}\n"
    )
    run = prefrl.train("Brief-v0", preset="brief.yaml", **overrides)
    asked = run.record["result"]["labels_answered"]
    assert asked < 110
    assert f"{asked} of 110 labels were asked" in caplog.text


@pytest.mark.parametrize(
    ("options", "unused"),
    [
        (
            {"true_reward": True, "labels": 6},
            "on the true reward makes no use of --labels, --query",
        ),
        ({"labeller": "none"}, "with labeller 'none' makes no use of --query, --teacher"),
    ],
)
def test_options_that_a_run_has_no_use_for_are_named(point_mass_run, caplog, options, unused):
    if "labeller" in options:
        options = options | {"labels_from": point_mass_run.label_file, "teacher": "stoc"}
    prefrl.train("prefrl/PointMass-v0", query="random", steps=960, quiet=True, **options)
    assert unused in caplog.text


def test_options_that_the_export_has_no_use_for_are_named(point_mass_run, caplog):
    command = ["label", str(point_mass_run.path), "--export", "labels.csv"]
    assert main(command) == 0
    assert not caplog.records
    assert main([*command, "--review", "--probes", "0.2"]) == 0
    assert "--export makes no use of --review, --probes" in caplog.text
