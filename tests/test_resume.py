"""Same seed, same run; killed, interrupted, cut short or out of disk, still the same run."""

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from compare import SMALL, answers_of, assert_same_run, rows_of, weights_of

import prefrl
from prefrl.checkpoint import is_whole, list_checkpoints, save_checkpoint
from prefrl.configfile import PRESETS, load_config
from prefrl.errors import Interrupted, UserError
from prefrl.labels.answers import turned
from prefrl.lock import hold
from prefrl.metrics import read_metrics
from prefrl.run import Run


def test_same_seed_same_run(tmp_path):
    runs = [
        prefrl.train("prefrl/PointMass-v0", seed=seed, out=f"run{i}", **SMALL)
        for i, seed in enumerate((3, 3, 4))
    ]
    assert_same_run(runs[0], runs[1])
    assert answers_of(runs[0]) == answers_of(runs[1])
    assert rows_of(runs[0]) != rows_of(runs[2])


CHEETAH = {"labels": 24, "steps": 12_288, "preset": "cheetah.yaml", "seed": 1, "quiet": True}
TRAIN = "import prefrl; prefrl.train('HalfCheetah-v5', out='killed', **{})"


def test_killed_and_resumed_cheetah_is_the_run_that_was_never_stopped(tmp_path):
    (tmp_path / "cheetah.yaml").write_text(
        "agent: {n_epochs: 3}\nrun: {checkpoint_every: 2048, evaluation_episodes: 2}\n"
    )
    whole = prefrl.train("HalfCheetah-v5", out="whole", **CHEETAH)
    process = subprocess.Popen([sys.executable, "-c", TRAIN.format(CHEETAH)])
    delay = np.random.default_rng().uniform(0, 1.0)
    while not list_checkpoints(Path("killed/checkpoints")):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = Run("killed")
    assert killed.record["result"] is None, "it ended before it was killed"
    resumed = prefrl.resume(killed, quiet=True)
    assert_same_run(whole, resumed)
    assert answers_of(whole) == answers_of(resumed)
    for key in ("true_return_mean", "learned_true_correlation", "labels_answered", "steps"):
        assert whole.record["result"][key] == resumed.record["result"][key]


def test_interrupt_checkpoints_and_says_how_to_resume(tmp_path):
    command = [sys.executable, "-m", "prefrl.cli", "train", "prefrl/PointMass-v0", "--out", "run"]
    command += ["--steps", "9600", "--labels", "16"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not Path("run/metrics.csv").exists() or len(read_metrics(Path("run/metrics.csv"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "`prefrl resume run` goes on" in errors
    assert "Traceback" not in errors
    resumed = prefrl.resume("run", quiet=True)
    whole = prefrl.train("prefrl/PointMass-v0", steps=9600, labels=16, out="whole", quiet=True)
    assert_same_run(whole, resumed)


def test_a_resumed_run_is_judged_by_its_final_policy(tmp_path):
    """Whatever was asked of the run before."""
    preset = (PRESETS / "prefrl-PointMass-v0.yaml").read_text()
    Path("often.yaml").write_text(preset.replace("run:", "run:\n  checkpoint_every: 960"))
    prefrl.train("prefrl/PointMass-v0", out="whole", preset="often.yaml", **SMALL)
    stop_earlier("whole", "again")
    run = Run("again")
    early = prefrl.evaluate(run)["learned_return"]
    prefrl.resume(run, quiet=True)
    late = prefrl.evaluate(run)
    assert late["learned_return"] != early
    assert late["learned_return"] == prefrl.evaluate("again")["learned_return"]
    assert run.record["result"]["true_return_mean"] == late["true_return"]["mean"]


def stop_earlier(whole, again):
    """Make `again` what the run was at its last checkpoint but one, which is given."""
    shutil.copytree(whole, again)
    record = json.loads(Path(again, "run.json").read_text()) | {"result": None}
    Path(again, "run.json").write_text(json.dumps(record))
    latest, before = list_checkpoints(Path(again, "checkpoints"))
    shutil.rmtree(latest)
    return before


def test_state_dependent_exploration_is_resumed_exactly(tmp_path):
    preset = (PRESETS / "prefrl-PointMass-v0.yaml").read_text()
    preset = preset.replace("run:", "run:\n  checkpoint_every: 960")
    Path("gsde.yaml").write_text(preset.replace("agent:", "agent:\n  sde_sample_freq: 7"))
    whole = prefrl.train("prefrl/PointMass-v0", out="whole", preset="gsde.yaml", **SMALL)
    assert whole.policy.model.use_sde
    assert whole.policy.model.sde_sample_freq == 7
    stop_earlier("whole", "again")
    assert_same_run(whole, prefrl.resume("again", quiet=True))


def test_resume_between_two_fits_is_exact(tmp_path):
    """Labels that were learned from before the checkpoint are no reason to fit again."""
    (tmp_path / "rare.yaml").write_text(
        (PRESETS / "prefrl-PointMass-v0.yaml")
        .read_text()
        .replace("run:", "run:\n  checkpoint_every: 960")
        .replace("until: 0.9", "until: 0.4")
    )
    options = SMALL | {"preset": "rare.yaml", "steps": 5760}
    whole = prefrl.train("prefrl/PointMass-v0", out="whole", **options)
    rows = read_metrics(whole.path / "metrics.csv")
    asked = [row["query/asked"] for row in rows]
    before = stop_earlier("whole", "again")
    place = [row["time/step"] for row in rows].index(int(before.name[5:]))
    assert asked[place - 1] == asked[place] == asked[place + 1] == 12, "a fit was due"
    assert_same_run(whole, prefrl.resume("again", quiet=True))


def test_run_stopped_before_its_first_checkpoint_starts_again(tmp_path):
    whole = prefrl.train("prefrl/PointMass-v0", out="whole", **SMALL)
    shutil.copytree("whole", "again")
    shutil.rmtree("again/checkpoints")
    record = json.loads(Path("again/run.json").read_text()) | {"result": None}
    Path("again/run.json").write_text(json.dumps(record))
    again = prefrl.resume("again", quiet=True)
    assert_same_run(whole, again)
    assert answers_of(whole) == answers_of(again)


def test_labels_taken_over_are_not_needed_at_their_source_again(tmp_path, point_mass_run):
    source = shutil.copy(point_mass_run.label_file, "source.db")
    sections = {"labels": {"labeller": "none", "source": source}, "run": {"steps": 3840}}
    run = Run.create(tmp_path / "run", load_config("prefrl/PointMass-v0", sections))
    Path(source).rename("moved.db")
    with pytest.raises(UserError, match=r"'source\.db' does not exist"):
        prefrl.resume(run, quiet=True)
    run.label_file.touch()  # killed before it had its tables
    with pytest.raises(UserError, match=r"'source\.db' does not exist"):
        prefrl.resume(run, quiet=True)
    moved = prefrl.LabelStore("moved.db")
    own = run.labels
    own.take_over(moved)
    own.close()
    moved.close()
    assert prefrl.resume(run, quiet=True).record["result"]["labels_answered"] == 60


def test_resume_without_its_labels_is_refused(tmp_path):
    run = unfinished(tmp_path)
    (run.path / "labels.db").unlink()
    with pytest.raises(UserError, match=r"has no label store \(labels\.db\)"):
        _ = run.labels  # which makes no new one
    with pytest.raises(UserError, match=r"'run/labels\.db' is gone"):
        prefrl.resume("run")


def test_environment_without_a_state_restarts_and_says_so(tmp_path, capsys):
    (tmp_path / "opaque.py").write_text(
        "import gymnasium as gym\n"
        "from envs.point_mass import PointMassEnv\n"
        "class Opaque(gym.Env):\n"
        "    def __init__(self):\n"
        "        self.inside = PointMassEnv()\n"
        "        self.observation_space = self.inside.observation_space\n"
        "        self.action_space = self.inside.action_space\n"
        "    def reset(self, **k): return self.inside.reset(**k)\n"
        "    def step(self, action): return self.inside.step(action)\n"
        "gym.register(id='Opaque-v0', entry_point=Opaque, max_episode_steps=60)\n"
    )
    preset = (PRESETS / "prefrl-PointMass-v0.yaml").read_text()
    (tmp_path / "often.yaml").write_text(preset.replace("run:", "run:\n  checkpoint_every: 960"))
    run = prefrl.train("opaque:Opaque-v0", preset="often.yaml", out="run", labels=12, steps=3840)
    record = json.loads((run.path / "run.json").read_text()) | {"result": None}
    (run.path / "run.json").write_text(json.dumps(record))
    latest, _ = list_checkpoints(run.checkpoints)
    shutil.rmtree(latest)
    capsys.readouterr()
    resumed = prefrl.resume("run")
    assert "its episodes start anew" in " ".join(capsys.readouterr().err.split())
    assert resumed.record["result"]["labels_answered"] == 12, "the budget holds all the same"
    assert prefrl.Run("run").record["inexact_resumes"] == 1


# ---- checkpoints


def unfinished(tmp_path: Path) -> Run:
    (tmp_path / "often.yaml").write_text(
        Path(PRESETS / "prefrl-PointMass-v0.yaml")
        .read_text()
        .replace("run:", "run:\n  checkpoint_every: 960")
    )
    run = prefrl.train("prefrl/PointMass-v0", preset="often.yaml", out="run", **SMALL)
    record = json.loads((run.path / "run.json").read_text()) | {"result": None}
    (run.path / "run.json").write_text(json.dumps(record))
    return run


def test_two_checkpoints_are_kept(tmp_path):
    run = unfinished(tmp_path)
    names = [path.name for path in list_checkpoints(run.checkpoints)]
    assert names == ["step_3840", "step_2880"]
    assert sorted(p.name for p in run.checkpoints.iterdir()) == sorted(names)


@pytest.mark.parametrize("name", ["policy.zip", "arrays.npz", "reward.pt", "manifest.json"])
def test_a_checkpoint_cut_short_falls_back_to_the_one_before(tmp_path, caplog, name):
    run = unfinished(tmp_path)
    whole_weights, whole_rows = weights_of(Run("run")), rows_of(run)
    file = run.checkpoints / "step_3840" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert not is_whole(run.checkpoints / "step_3840")
    resumed = prefrl.resume("run", quiet=True)
    assert "damaged or cut short" in caplog.text
    assert rows_of(resumed) == whole_rows
    for a, b in zip(weights_of(Run("run")), whole_weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_damaged_checkpoint_does_not_outlive_those_after_which_it_comes(tmp_path):
    def save(step):
        def write(folder):
            for name in ("policy.zip", "arrays.npz", "trainer.json"):
                (folder / name).write_text(str(step))

        return save_checkpoint(tmp_path, step, write)

    save(1000)
    (save(2000) / "policy.zip").unlink()
    save(1500)  # of a run that went on from 1000
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_1500", "step_1000"]
    assert all(is_whole(path) for path in list_checkpoints(tmp_path))


def test_no_whole_checkpoint_is_said(tmp_path):
    run = unfinished(tmp_path)
    for checkpoint in list_checkpoints(run.checkpoints):
        (checkpoint / "arrays.npz").unlink()
    with pytest.raises(UserError, match="no whole checkpoint"):
        prefrl.resume("run")


def test_nothing_of_ours_is_pickled(point_mass_run):
    (checkpoint, *_) = list_checkpoints(point_mass_run.checkpoints)
    with np.load(checkpoint / "arrays.npz", allow_pickle=False) as arrays:
        assert all(arrays[key].dtype != object for key in arrays.files)
    torch.load(checkpoint / "reward.pt", weights_only=True)
    assert {p.suffix for p in checkpoint.iterdir()} == {".zip", ".npz", ".pt", ".json"}


# ---- failures of the disk


DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
from prefrl.cli import main
sys.exit(main(["train", "prefrl/PointMass-v0", "--out", "full", "--quiet"]))
"""


def test_full_disk_stops_with_a_sentence_and_a_whole_store(tmp_path):
    done = subprocess.run([sys.executable, "-c", DISK], capture_output=True, text=True)
    assert done.returncode == 1
    assert "because of its disk" in done.stderr
    assert "because of its disk" in prefrl.Run("full").record["failure"]
    assert "Traceback" not in done.stderr
    store = prefrl.LabelStore("full/labels.db")
    labels = store.labels()
    assert labels
    for label in labels:
        store.clip(label.query.left_clip)
    store.close()


class SignalAfter(list):
    """Signals to stop, of which one is there after so many rollouts; each looks twice."""

    def __init__(self, rollouts):
        super().__init__()
        self.looks, self.last = 0, 2 * rollouts - 2

    def __bool__(self):
        self.looks += 1
        return self.looks > self.last


@pytest.fixture
def stop_after(monkeypatch):
    """Trains the point mass for so many rollouts, and gives the run that was stopped."""

    def stop(rollouts, **options):
        signals = SignalAfter(rollouts)
        with monkeypatch.context() as patch:
            patch.setattr("prefrl.trainer.watch_interrupts", lambda: nullcontext(signals))
            with pytest.raises(Interrupted):
                prefrl.train("prefrl/PointMass-v0", out="stopped", **options)
        return Run("stopped")

    return stop


@pytest.mark.parametrize("corrected", [False, True])
def test_what_is_corrected_while_a_run_is_stopped_is_learned_from(stop_after, corrected):
    preset = (PRESETS / "prefrl-PointMass-v0.yaml").read_text()
    Path("early.yaml").write_text(preset.replace("until: 0.9", "until: 0.4"))
    options = SMALL | {"preset": "early.yaml", "steps": 5760}
    whole = prefrl.train("prefrl/PointMass-v0", out="whole", **options)
    run = stop_after(5, **options)
    store = run.labels
    labels = store.labels()
    assert len(labels) == 12
    assert int(run.checkpoint().name[5:]) > max(label.step for label in labels) + 1000
    for label in labels:
        answer = turned(label.answer, corrected)
        store.answer(label.query.id, answer, labeller="ada", seconds=1)
    store.close()
    resumed = prefrl.resume(run, quiet=True)
    pairs = zip(weights_of(whole), weights_of(resumed), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs) != corrected


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_goes_on_from_where_another_process_left_it(stop_after, monkeypatch, finished):
    """Which trains it on, and drops old checkpoints, until the moment that it lets go of it."""
    whole = prefrl.train("prefrl/PointMass-v0", out="whole", **SMALL)
    run = stop_after(2, **SMALL)

    @contextmanager
    def hold_late(path):
        shutil.rmtree(run.checkpoints)
        shutil.copytree("whole", "stopped", dirs_exist_ok=True)
        if not finished:
            Run("stopped").finish(None)
        with hold(path) as held:
            yield held

    monkeypatch.setattr("prefrl.trainer.hold", hold_late)
    began = Run("whole").record["started"]
    prefrl.resume(run, quiet=True)
    assert run.record["started"] == began
    for key in ("true_return_mean", "labels_answered", "steps"):
        assert run.record["result"][key] == whole.record["result"][key]
    assert rows_of(run) == rows_of(whole)


def test_policy_and_reward_are_of_one_checkpoint():
    """However long it takes between the two, and whatever a training writes meanwhile."""
    run = Run(prefrl.train("prefrl/PointMass-v0", out="run", **SMALL).path)
    policy, loaded = run.policy, run.loaded
    shutil.copytree(loaded, run.checkpoints / "step_9999")
    shutil.rmtree(loaded)
    assert run.ensemble.fitted
    assert run.policy is policy
    assert run.loaded == loaded
    run.forget_networks()
    assert run.loaded.name == "step_9999"
