"""The invariants of a whole run, on the point mass and, where physics matter, on HalfCheetah."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

import prefrl
from envs.point_mass import PointMassEnv
from prefrl.checkpoint import is_whole, list_checkpoints
from prefrl.errors import RunFailed, UserError
from prefrl.metrics import columns, read_metrics
from prefrl.run import Run

SMALL = {"labels": 12, "steps": 3840, "quiet": True}
"""Four rollouts of the point mass."""


def rows_of(run: Run, without: tuple[str, ...] = ("time/",)) -> list[dict[str, str]]:
    """Rows of metrics.csv as text, times aside."""
    with (run.path / "metrics.csv").open() as file:
        return [
            {k: v for k, v in row.items() if k == "time/step" or not k.startswith(without)}
            for row in csv.DictReader(file)
        ]


def answers_of(run: Run) -> list[tuple]:
    store = run.labels
    answers = [(label.query, label.answer, label.step) for label in store.labels()]
    store.close()
    return answers


def weights_of(run: Run) -> list[np.ndarray]:
    """Every number that policy and ensemble consist of."""
    tensors = [*run.policy.model.policy.state_dict().values()]
    if not run.config.run.true_reward:
        tensors += [*run.ensemble.state_dict().values()]
    return [tensor.numpy() for tensor in tensors]


def assert_same_run(first: Run, second: Run, without: tuple[str, ...] = ("time/",)) -> None:
    assert rows_of(first, without) == rows_of(second, without)
    for a, b in zip(weights_of(first), weights_of(second), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- learning


def test_point_mass_is_learned_to_its_optimum(point_mass_run):
    result = point_mass_run.record["result"]
    assert result["labels_answered"] == 60
    assert result["true_return_mean"] > 0.97 * PointMassEnv.BEST_RETURN
    assert result["wall_seconds"] < 60


def test_result_holds_every_field(point_mass_run):
    result = json.loads((point_mass_run.path / "run.json").read_text())["result"]
    assert result.keys() == {
        "true_return_mean",
        "true_return_std",
        "episodes",
        "learned_true_correlation",
        "labels_answered",
        "steps",
        "steps_per_second",
        "wall_seconds",
        "seconds",
    }
    assert result["episodes"] == 20
    assert sum(result["seconds"].values()) == pytest.approx(result["wall_seconds"])
    assert result["steps_per_second"] == pytest.approx(result["steps"] / result["wall_seconds"])
    seconds = result["seconds"]
    assert min(seconds[k] for k in ("simulate", "policy", "optimise", "fit")) > 0.1


def test_record_says_what_ran(point_mass_run):
    record = point_mass_run.record
    assert record["versions"]["mujoco"]
    assert record["versions"]["prefrl"] == prefrl.__version__
    assert record["seed"] == 0
    assert record["hardware"]["cores"] == os.cpu_count()


def test_policy_loads_with_plain_sb3(point_mass_run):
    (checkpoint, *_) = list_checkpoints(point_mass_run.checkpoints)
    model = PPO.load(checkpoint / "policy.zip")
    assert type(model) is PPO
    actions, _ = model.predict(np.zeros((3, 4), np.float32))
    assert actions.shape == (3, 2)


def test_run_in_python(point_mass_run):
    run = Run(point_mass_run.path)
    observations = np.zeros((5, 4), np.float32)
    actions = run.policy.predict(observations)
    assert actions.shape == (5, 2)
    assert (actions[:, 0] > 0.9).all(), "full force to the right"
    right, left = np.tile([0, 0, 0.5, 0], (2, 1)), np.tile([0, 0, -0.5, 0], (2, 1))
    still = np.zeros((2, 2))
    assert (run.reward(right, still) > run.reward(left, still)).all()
    store = run.labels
    assert store.count_answered() == 60
    store.close()


def test_true_reward_is_the_ceiling(tmp_path):
    run = prefrl.train("prefrl/PointMass-v0", true_reward=True, out=tmp_path / "run", quiet=True)
    assert run.record["result"]["true_return_mean"] > 0.97 * PointMassEnv.BEST_RETURN
    assert math.isnan(run.record["result"]["learned_true_correlation"])
    assert not (run.path / "labels.db").exists()
    with pytest.raises(UserError, match="learned from the true reward"):
        run.reward(np.zeros((1, 4)), np.zeros((1, 2)))


def test_discrete_actions(tmp_path):
    """MountainCar, told by an oracle of our own to rock; past the goal it goes on."""
    (tmp_path / "rock.py").write_text("def score(clip):\n    return abs(clip.observations[:, 1])\n")
    (tmp_path / "car.yaml").write_text(
        "env: {termination: ignore}\n"
        "clips: {length: 20}\n"
        "agent: {n_steps: 200, batch_size: 200, ent_coef: 0.01}\n"
    )
    run = prefrl.train(
        "MountainCar-v0",
        preset="car.yaml",
        oracle="rock.py:score",
        labels=40,
        steps=24_000,
        out="car",
        quiet=True,
    )
    before = read_metrics(run.path / "metrics.csv")[0]
    summary = prefrl.evaluate(run, episodes=5)
    assert before["label/answered"] >= 10
    assert summary["oracle_return"]["mean"] > 1.0, "a random car reaches 0.5 to 0.8"


def test_own_environment_by_module(tmp_path):
    (tmp_path / "my_envs.py").write_text(
        "import gymnasium as gym\n"
        "from envs.point_mass import PointMassEnv\n"
        "gym.register(id='Mine-v0', entry_point=PointMassEnv, max_episode_steps=60)\n"
    )
    run = prefrl.train(
        "my_envs:Mine-v0", preset="prefrl/PointMass-v0", steps=15_000, out="mine", quiet=True
    )
    assert run.record["result"]["true_return_mean"] > 0.9 * PointMassEnv.BEST_RETURN


def test_mistaken_teacher_is_survived(tmp_path):
    run = prefrl.train("prefrl/PointMass-v0", teacher="mistake", out="run", quiet=True)
    assert run.record["result"]["true_return_mean"] > 0.9 * PointMassEnv.BEST_RETURN


# ---- invariant 1: the agent never sees the true reward

POISONED = """
import gymnasium as gym, numpy as np
from envs.point_mass import PointMassEnv

class Poisoned(PointMassEnv):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        reward = {reward}
        return observation, reward, *rest

gym.register(id="{name}-v0", entry_point=Poisoned, max_episode_steps=60)
"""
POISONS = {
    "clean": "reward",
    "nan": "float('nan')",
    "huge": "1e9",
    "noise": "float(np.random.default_rng().normal())",
}


def poisoned_run(tmp_path: Path, name: str, **options) -> Run:
    (tmp_path / f"poison_{name}.py").write_text(POISONED.format(reward=POISONS[name], name=name))
    return prefrl.train(
        f"poison_{name}:{name}-v0",
        preset="prefrl/PointMass-v0",
        out=f"{name}-{options.get('labeller', 'oracle')}",
        **SMALL,
        **options,
    )


TRUE = ("time/", "rollout/true_")


def test_poisoned_reward_changes_nothing_with_an_oracle_of_observations(tmp_path):
    (tmp_path / "fast.py").write_text("def score(clip):\n    return clip.observations[:, 2]\n")
    clean, *others = (poisoned_run(tmp_path, name, oracle="fast.py:score") for name in POISONS)
    for other in others:
        assert_same_run(clean, other, without=TRUE)
        assert answers_of(clean) == answers_of(other)
    # That the comparison can fail: the true return does differ.
    assert rows_of(clean) != rows_of(others[0])


def test_poisoned_reward_changes_nothing_with_recorded_labels(tmp_path, point_mass_run):
    source = tmp_path / "labels.db"
    store = prefrl.LabelStore(source)
    recorded = point_mass_run.labels
    store.take_over(recorded)
    recorded.close()
    runs = []
    for name in POISONS:
        store.note(environment=f"poison_{name}:{name}-v0")
        runs.append(poisoned_run(tmp_path, name, labels_from=source, labeller="none"))
    store.close()
    for other in runs[1:]:
        assert_same_run(runs[0], other, without=TRUE)
    assert runs[0].record["result"]["labels_answered"] == 60


# ---- invariant 2: what is asked


def test_every_query_is_of_two_clips_of_its_own(point_mass_run):
    store = point_mass_run.labels
    queries = [label.query for label in store.labels()]
    clips = [clip for query in queries for clip in (query.left_clip, query.right_clip)]
    assert len(set(clips)) == len(clips) == 120
    for clip_id in clips:
        clip = store.clip(clip_id)
        speed = np.diff(clip.observations[:, :2], axis=0)
        speed = np.minimum(abs(speed), 2 - abs(speed))  # the plane is round
        assert len(clip) == 15
        assert speed.max() < 0.06, "a jump: the clip spans a reset"
    store.close()


# ---- invariant 5: same seed, same run; a resumed run is the same run


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
    whole = prefrl.train("prefrl/PointMass-v0", out="whole", quiet=True)
    assert_same_run(whole, resumed)


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
    run = prefrl.train(
        "opaque:Opaque-v0", preset="prefrl/PointMass-v0", out="run", labels=12, steps=3840
    )
    record = json.loads((run.path / "run.json").read_text()) | {"result": None}
    (run.path / "run.json").write_text(json.dumps(record))
    capsys.readouterr()
    prefrl.resume("run")
    assert "its episodes start anew" in " ".join(capsys.readouterr().err.split())


# ---- checkpoints


def unfinished(tmp_path: Path) -> Run:
    (tmp_path / "often.yaml").write_text(
        Path(prefrl.config.PRESETS / "prefrl-PointMass-v0.yaml")
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
    assert "Traceback" not in done.stderr
    store = prefrl.LabelStore("full/labels.db")
    labels = store.labels()
    assert labels
    for label in labels:
        store.clip(label.query.left_clip)
    store.close()


# ---- metrics


def test_metrics_have_a_row_for_each_rollout(point_mass_run):
    rows = read_metrics(point_mass_run.path / "metrics.csv")
    assert [row["time/step"] for row in rows] == [960 * i for i in range(1, 33)]
    assert list(rows[0]) == columns(members=3)
    last = rows[-1]
    assert not [key for key, value in last.items() if math.isnan(value)]
    assert last["label/answered"] == last["query/asked"] == 60
    assert 0.5 < last["rollout/true_correlation"] <= 1
    assert list((point_mass_run.path / "tb").iterdir())


def test_a_cut_last_row_is_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_text("time/step,a\n1,2\n2\n")
    rows = read_metrics(tmp_path / "metrics.csv")
    assert rows == [{"time/step": 1.0, "a": 2.0}]


# ---- truncation


def test_truncation_bootstraps_and_the_learned_reward_is_what_ppo_gets():
    from prefrl.agent.stack import Stack
    from prefrl.clock import Stopwatch
    from prefrl.config import load_config

    config = load_config("prefrl/PointMass-v0", {"agent": {"n_steps": 60, "batch_size": 96}})
    stack = Stack(config, Stopwatch())
    stack.ensemble.normalise_outputs(np.random.default_rng(0).normal(size=(99, 6)).astype("f4"))
    stack.normalise.reset()
    for step in range(60):
        _, _, dones, infos = stack.normalise.step(np.zeros((8, 2), np.float32))
        expected = stack.ensemble.rewards(stack.recorder.last_inputs)
        np.testing.assert_array_equal(stack.normalise.get_original_reward(), expected)
        assert dones.all() == (step == 59)
    assert all(info["TimeLimit.truncated"] for info in infos)
    assert all("terminal_observation" in info for info in infos)
    stack.close()


def test_no_update_before_the_first_label(tmp_path):
    (tmp_path / "late.yaml").write_text(
        Path(prefrl.config.PRESETS / "prefrl-PointMass-v0.yaml")
        .read_text()
        .replace("budget: 60", "budget: 60\n  initial: 0.9")
    )
    run = prefrl.train(
        "prefrl/PointMass-v0", preset="late.yaml", steps=4800, labels=50, out="run", quiet=True
    )
    rows = read_metrics(run.path / "metrics.csv")
    waiting = [row for row in rows if not row["label/answered"] > 0]
    assert waiting
    assert all(math.isnan(row["rollout/approx_kl"]) for row in waiting)
    assert not math.isnan(rows[-1]["rollout/approx_kl"])
    assert rows[0]["rollout/learned_return"] == 0


def test_termination_in_mid_run_is_a_sentence(tmp_path):
    (tmp_path / "late_end.py").write_text(
        "import gymnasium as gym\n"
        "from envs.point_mass import PointMassEnv\n"
        "class LateEnd(PointMassEnv):\n"
        "    steps = 0\n"
        "    def step(self, action):\n"
        "        LateEnd.steps += 1\n"
        "        o, r, _, t, i = super().step(action)\n"
        "        return o, r, LateEnd.steps > 1500, t, i\n"
        "gym.register(id='LateEnd-v0', entry_point=LateEnd, max_episode_steps=60)\n"
    )
    with pytest.raises(RunFailed, match="--allow-termination"):
        prefrl.train("late_end:LateEnd-v0", preset="prefrl/PointMass-v0", out="run", **SMALL)
    assert gym.spec("LateEnd-v0").max_episode_steps == 60
