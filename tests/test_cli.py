"""Every command as a user calls it: what it prints, what it leaves, how it ends."""

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
import pytest

from envs.point_mass import PointMassEnv
from prefrl.cli import main, parser
from prefrl.evaluation import SEED
from prefrl.labels.store import LabelStore

COMMANDS = ["train", "resume", "label", "evaluate", "video", "report", "demo", "info"]
README = (Path(__file__).parent.parent / "README.md").read_text()


def refused(capsys, *arguments: str) -> str:
    """The one sentence with which a command refuses its input."""
    before = sorted(Path().rglob("*"))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("prefrl: ")
    assert err.count("\n") == 1, err
    assert sorted(Path().rglob("*")) == before, "something was written"
    return err


def test_help_is_quick_and_lists_every_command():
    command = [sys.executable, "-m", "prefrl.cli", "--help"]
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3
    for name in COMMANDS:
        assert f"\n    {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_stands_in_the_readme(name, capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: prefrl {name}" in capsys.readouterr().out
    assert f"prefrl {name}" in README


def test_train_prints_its_result_and_writes_the_run_folder(capsys):
    arguments = ["train", "prefrl/PointMass-v0", "--labels", "12", "--steps", "3840", "--seed", "5"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith("true return ")
    assert "after 12 labels and 3,840 steps" in out
    assert "training in runs/prefrl-PointMass-v0-seed5" in err
    run = Path("runs/prefrl-PointMass-v0-seed5")
    assert {p.name for p in run.iterdir()} == {
        "config.yaml",
        "run.json",
        "labels.db",
        "metrics.csv",
        "tb",
        "checkpoints",
        ".training",  # the trainer's lock
    }
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert Path("runs/prefrl-PointMass-v0-seed5-2").is_dir()


def test_resume_of_a_finished_run_changes_nothing(point_mass_run, capsys):
    before = (point_mass_run.path / "run.json").read_bytes()
    assert main(["resume", str(point_mass_run.path)]) == 0
    assert "after 60 labels" in capsys.readouterr().out
    assert (point_mass_run.path / "run.json").read_bytes() == before


def test_evaluate(point_mass_run, capsys):
    assert main(["evaluate", str(point_mass_run.path), "--episodes", "12", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary.keys() == {
        "episodes",
        "true_return",
        "learned_return",
        "best_episode",
        "info",
    }
    assert summary["true_return"]["best"] >= summary["true_return"]["mean"]
    assert summary["episodes"] == 12
    assert summary["true_return"]["mean"] > 27
    assert summary["info"]["x_velocity"]["mean"] == pytest.approx(0.5, abs=0.01)
    assert main(["evaluate", str(point_mass_run.path), "--episodes", "3"]) == 0
    out = capsys.readouterr().out
    assert "3 episodes; the best has the highest true_return" in out
    assert re.search(r"^ +mean +sd +best episode$", out, re.MULTILINE)
    assert re.search(r"^x_velocity +0\.\d+ +0\.\d+ +0\.\d+$", out, re.MULTILINE)


def test_video_shows_what_happens(point_mass_run, capsys):
    assert main(["video", str(point_mass_run.path), "out/run.mp4", "--seconds", "2"]) == 0
    assert capsys.readouterr().out == "out/run.mp4\n"
    frames = read_video("out/run.mp4")
    assert frames.shape == (20, 360, 480, 3)
    places = [_orange(frame)[0] for frame in frames]
    steps = np.diff(places)
    assert (steps[5:] > 0).sum() >= 12, "the mass flies to the right"


def test_video_of_the_best_episode(point_mass_run, capsys, monkeypatch):
    def rest_in_the_fourth(episodes, by):
        return replace(episodes[3], actions=np.zeros_like(episodes[3].actions))

    monkeypatch.setattr("prefrl.filming.best_episode", rest_in_the_fourth)
    assert main(["video", str(point_mass_run.path), "--best"]) == 0
    path = capsys.readouterr().out.strip()
    assert path.endswith("_best.mp4")
    frames = read_video(path)
    assert len(frames) == 60, "the whole episode of 6 s, at 10 frames a second"
    env = PointMassEnv()
    env.reset(seed=SEED + 3)
    assert _orange(frames[0]) == pytest.approx(_pixels(env), abs=1.5)
    assert _orange(frames[-1]) == pytest.approx(_pixels(env), abs=1.5), "its actions, none other"
    assert main(["video", str(point_mass_run.path), "b.mp4", "--best", "--seconds", "2"]) == 0
    short = read_video("b.mp4")
    assert len(short) == 20
    assert _orange(short[19]) == pytest.approx(_orange(frames[19]), abs=1.5)


def _pixels(env: PointMassEnv) -> tuple[float, float]:
    """Where the mass is in a picture of 480 x 360: `(column, row)`."""
    x, y = env.state[:2]
    return 240 + 180 * x, 180 - 180 * y


def read_video(path: str) -> np.ndarray:
    """Frames `(n, 360, 480, 3)`."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24"]
    done = subprocess.run([*command, "-"], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, 360, 480, 3)


def _orange(frame: np.ndarray) -> tuple[float, float]:
    """Where the mass is: `(column, row)`, pixels."""
    red, green, blue = frame.astype(int).transpose(2, 0, 1)
    rows, columns = np.nonzero((red > 180) & (green < 140) & (blue < 90))
    return float(columns.mean()), float(rows.mean())


def test_video_of_a_mujoco_environment(tmp_path, capsys):
    arguments = ["train", "Hopper-v5", "--labels", "4", "--steps", "8192", "--out", "hopper"]
    (tmp_path / "tiny.yaml").write_text(
        "agent: {n_epochs: 1, n_steps: 128}\nrun: {evaluation_episodes: 1}\n"
    )
    assert main([*arguments, "--preset", "tiny.yaml", "--quiet"]) == 0
    assert main(["video", "hopper", "--seconds", "0.5"]) == 0
    frames = read_video(capsys.readouterr().out.splitlines()[-1])
    assert frames.shape[1:] == (360, 480, 3)
    assert frames.std() > 10, "blank frames"
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 30, "nothing moves"


def test_report(point_mass_run, capsys):
    assert main(["report", str(point_mass_run.path)]) == 0
    picture = iio.imread(capsys.readouterr().out.strip())
    assert picture.shape[:2] == (800, 1500)
    # Each of the six panels has drawn something.
    for rows in np.array_split(picture[..., :3], 2):
        for panel in np.array_split(rows, 3, axis=1):
            assert (panel != 255).any(axis=-1).mean() > 0.01


def test_info(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for name in ("prefrl", "mujoco", "renderer", "display", "runs", "presets"):
        assert f"\n{name} " in f"\n{out}"
    assert "egl: works" in out


def test_no_renderer_says_what_to_install(point_mass_run, tmp_path):
    program = (
        "import os, sys\n"
        "import gymnasium\n"
        "from gymnasium.envs.mujoco import mujoco_env\n"
        "from prefrl.clips.render import Renderer\n"
        "from prefrl.errors import UserError\n"
        "env = gymnasium.make('Hopper-v5', render_mode='rgb_array'); env.reset()\n"
        "try:\n    Renderer(env)\n"
        "except UserError as error:\n    print(error)\n"
    )
    environment = {"MUJOCO_GL": "glfw", "PATH": "/usr/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert "no renderer works here" in done.stdout, done.stderr
    assert "install EGL" in done.stdout


# ---- bad input: one sentence, exit code 2, nothing written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "HalfCheeta-v5"], "unknown environment 'HalfCheeta-v5': did you mean"),
        (["train", "prefrl/PointMas-v0"], "did you mean 'prefrl/PointMass-v0'"),
        (["train", "Ant-v5", "--preset", "Ant"], "unknown preset 'Ant': did you mean 'Ant-v5'"),
        (["train", "Ant-v9"], "unknown environment 'Ant-v9': did you mean 'Ant-v5'"),
        (["train", "Ant-v5", "--labels", "0"], "labels must be at least 1"),
        (["train", "Ant-v5", "--steps", "-3"], "steps must be at least 1"),
        (["train", "Ant-v5", "--steps", "5000"], "ask for fewer labels or train for more steps"),
        (["train", "Ant-v5", "--query", "disagree"], "did you mean 'disagreement'"),
        (["train", "Ant-v5", "--teacher", "orakel"], "did you mean 'oracle'"),
        (["train", "Ant-v5", "--oracle", "no.py:f"], "oracle file 'no.py' does not exist"),
        (["train", "Ant-v5", "--labels-from", "no.db"], "'no.db' does not exist"),
        (["train", "Ant-v5", "--labels-from", "."], "'.' is a folder: give 'labels.db'"),
        (["train", "Ant-v5", "--labeller", "none"], "add --labels-from"),
        (["train", "CartPole-v1"], "--allow-termination"),
        *(
            (["train", f"prefrl/{name}-v0", "--allow-termination"], "never ends one early")
            for name in ("HopperBackflip", "HalfCheetahOneLeg", "PointMass")
        ),
        (["train", "Ant-v5", "--out", "/proc/nowhere"], "cannot make the run folder"),
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
        (["train", "Ant-v5", "--labels", "1.5"], "argument --labels: invalid int value: '1.5'; "),
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


def test_unknown_renderer(capsys, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "eggl")
    assert "MUJOCO_GL is 'eggl': set it to egl" in refused(capsys, "info")


def test_existing_out_is_not_touched(tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    error = refused(capsys, "train", "prefrl/PointMass-v0", "--out", "taken")
    assert "'taken' exists already" in error


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agent: {gama: 0.9}", "unknown key 'agent.gama': did you mean 'gamma'"),
        ("agnt: {gamma: 0.9}", "unknown section 'agnt': did you mean 'agent'"),
        ("agent: {activation: Relu}", "unknown activation 'Relu': did you mean 'ReLU'"),
        ("agent: {batch_size: 100}", "batch_size must divide one rollout"),
        ("env: {id: Ant-v5}", "the preset is for Ant-v5, not for Pendulum-v1"),
        ("reward: {hidden: 64}", "reward.hidden must be list, got 64"),
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
        ("return clip.infos['height']", "KeyError: 'height'"),
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


def test_labels_from_a_foreign_file_leaves_it_alone(tmp_path, capsys):
    with contextlib.closing(sqlite3.connect("foreign.db")) as db:
        db.execute("CREATE TABLE mine (x)")
    before = Path("foreign.db").read_bytes()
    error = refused(capsys, "train", "prefrl/PointMass-v0", "--labels-from", "foreign.db")
    assert "'foreign.db' is not a label store" in error
    assert Path("foreign.db").read_bytes() == before


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


@pytest.mark.parametrize(
    ("init", "step", "limit", "message"),
    [
        ("raise OSError('no licence')", "", 60, "cannot be made: OSError: no licence"),
        ("", "raise ValueError('exploded')", 60, "under random actions: ValueError: exploded"),
        ("", "o = o * float('nan')", 60, "observations that are not finite"),
        ("", "", 10, "episodes of 10 steps, shorter than one clip of 15"),
        ("self.action_space = gym.spaces.Discrete(3, start=1)", "action = 0", 60, "start at 0"),
        ("self.action_space = gym.spaces.Box(-float('inf'), 1)", "", 60, "unbounded actions"),
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
        ("if self.steps > 400: raise ValueError('late')", "", "failed in a step: ValueError: late"),
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
    assert "cannot write '/proc/x.mp4'" in refused(
        capsys, "video", run, "/proc/x.mp4", "--seconds", "0.2"
    )
