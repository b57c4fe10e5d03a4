"""Every command as a user calls it: what it prints, what it leaves, how it ends."""

import io
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from compare import read_video
from rich.console import Console
from rich.text import Text

from envs.point_mass import PointMassEnv
from prefrl.cli import main, parse, parser
from prefrl.configfile import load_config
from prefrl.errors import CodeFailed, UserError
from prefrl.evaluation import SEED
from prefrl.filming import write_mp4
from prefrl.panel import Panel
from prefrl.run import Run

COMMANDS = ["train", "resume", "label", "evaluate", "video", "report", "demo", "info"]
README = (Path(__file__).parent.parent / "README.md").read_text()


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


def test_a_folder_is_named_on_the_panel_as_it_is(monkeypatch):
    shown = []
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setattr(Panel, "show", lambda self, box: shown.append(box.title))
    run = Run.create(Path("a[/red]"), load_config("prefrl/PointMass-v0", {}))
    Panel(run, quiet=False).update(
        {"time/step": 960, "time/seconds": 1, "time/label": 0, "time/steps_per_second": 960}
    )
    assert Text.from_markup(shown[0]).plain == "prefrl/PointMass-v0 · a[/red]"


def test_the_time_left_is_rounded_before_it_is_split(capsys):
    run = Run.create(Path("run"), load_config("prefrl/PointMass-v0", {}))
    speed = (run.config.run.steps - 960) / 119.7
    values = {"time/step": 960, "time/seconds": 1, "time/label": 0, "time/steps_per_second": speed}
    Panel(run, quiet=False).update(values | {"rollout/true_return": 0.42})
    said = capsys.readouterr().err
    assert "left 2 min 0 s" in said
    assert "true return 0.42" in said


@pytest.mark.parametrize(
    "words", ["RUN OUT.mp4 --best", "--best RUN OUT.mp4", "RUN --best OUT.mp4"]
)
def test_options_stand_anywhere(words):
    args = parse(["video", *words.split()])
    assert (args.run, args.best, args.out) == ("RUN", True, "OUT.mp4")


def test_what_is_too_much_is_answered_by_its_command(capsys):
    for words in ("report my own run", "video RUN OUT.mp4 MORE", "video RUN --bset"):
        with pytest.raises(SystemExit):
            parse(words.split())
        name = words.split()[0]
        assert f"`prefrl {name} --help` lists what there is" in capsys.readouterr().err


def test_a_terminal_without_the_sign_is_no_failure(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    arguments = ["train", "prefrl/PointMass-v0", "--labels", "8", "--steps", "3840", "--quiet"]
    assert main(arguments) == 0
    assert out.buffer.getvalue().startswith(b"true return ")


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


def test_what_ones_own_code_prints_is_not_in_the_json(point_mass_run, monkeypatch, capsys):
    reset = PointMassEnv.reset

    def chatty(env, **options):
        print("a new episode")
        return reset(env, **options)

    monkeypatch.setattr(PointMassEnv, "reset", chatty)
    assert main(["evaluate", str(point_mass_run.path), "--episodes", "1", "--json"]) == 0
    out, errors = capsys.readouterr()
    assert json.loads(out)["episodes"] == 1
    assert errors == "a new episode\n"


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


def test_a_video_that_is_not_finished_leaves_the_one_before(tmp_path):
    def fails_in_the_middle():
        yield np.zeros((32, 32, 3), np.uint8)
        raise CodeFailed("simulator gone")

    before = tmp_path / "video.mp4"
    before.write_text("an older video")
    with pytest.raises(CodeFailed, match="simulator gone"):
        write_mp4(before, fails_in_the_middle(), fps=30)
    assert before.read_text() == "an older video"
    assert list(tmp_path.iterdir()) == [before]


@pytest.mark.parametrize("count", [8, 200])
def test_a_video_that_does_not_fit_leaves_the_one_before(tmp_path, count):
    """Whether ffmpeg fails while it is given frames, or once it has all of them."""
    noise = np.random.default_rng(0).integers(0, 255, (360, 480, 3)).astype(np.uint8)
    before = tmp_path / "video.mp4"
    before.write_text("an older video")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write '.*video\.mp4': ffmpeg failed"):
            write_mp4(before, itertools.repeat(noise, count), fps=30)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert before.read_text() == "an older video"
    assert list(tmp_path.iterdir()) == [before]


def _pixels(env: PointMassEnv) -> tuple[float, float]:
    """Where the mass is in a picture of 480 x 360: `(column, row)`."""
    x, y = env.state[:2]
    return 240 + 180 * x, 180 - 180 * y


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


def test_mujoco_is_imported_with_the_renderer_that_needs_no_display():
    """Its own `mujoco.Renderer`, which an environment may draw with, is chosen then for good."""
    program = (
        "from prefrl.registry import find_spec\n"
        "find_spec('Hopper-v5')\n"
        "import mujoco\n"
        "print(mujoco.GLContext.__module__)\n"
    )
    bare = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY")}
    done = subprocess.run([sys.executable, "-c", program], env=bare, capture_output=True, text=True)
    assert done.stdout == "mujoco.egl\n", done.stderr


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


def test_a_reader_that_has_had_enough_is_no_fault():
    """As `head` is."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "prefrl.cli", "info"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == ""


def test_output_that_cannot_be_written_is_one_sentence():
    command = [sys.executable, "-m", "prefrl.cli", "info"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "prefrl: cannot write the output: No space left on device\n"
    assert done.returncode == 1
