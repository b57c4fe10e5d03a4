"""The invariants of a whole run, on the point mass and, where physics matter, on HalfCheetah."""

import contextlib
import json
import math
import os
import subprocess
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from compare import SMALL, answers_of, assert_same_run, rows_of
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import prefrl
from envs.point_mass import PointMassEnv
from prefrl.checkpoint import list_checkpoints
from prefrl.configfile import PRESETS
from prefrl.errors import RunFailed, UserError
from prefrl.metrics import columns, read_metrics
from prefrl.run import Run, source_commit

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


def test_no_commit_of_another_project_is_recorded(tmp_path, monkeypatch):
    for command in ("init", "add ours.py", "commit -m ours"):
        (tmp_path / "ours.py").touch()
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *command.split()], check=True, capture_output=True)
    monkeypatch.setattr("prefrl.run.__file__", str(tmp_path / "ours.py"))
    commit = source_commit()
    assert commit
    assert len(commit) == 40
    (tmp_path / "run.py").touch()  # as in a virtual environment inside that project
    monkeypatch.setattr("prefrl.run.__file__", str(tmp_path / "run.py"))
    assert source_commit() is None


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


def test_what_the_agent_gains_stays_in_its_reward(point_mass_run):
    """A reward that is brought to scale on what the agent does now would call all of it average."""
    with contextlib.closing(point_mass_run.labels) as store:
        queries = [label.query for label in store.labels()[:15]]
        clips = [clip for query in queries for clip in (query.left_clip, query.right_clip)]
        first = np.concatenate([store.clip(clip).inputs for clip in clips])
    members = point_mass_run.ensemble.member_rewards(first)
    np.testing.assert_allclose(members.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(members.std(axis=1), 1, atol=1e-2)
    full_speed, full_force = np.array([[0, 0, 1.0, 0]]), np.array([[1.0, 0]])
    assert point_mass_run.reward(full_speed, full_force) > 2


def test_true_reward_is_the_ceiling(tmp_path):
    run = prefrl.train("prefrl/PointMass-v0", true_reward=True, out=tmp_path / "run", quiet=True)
    assert run.record["result"]["true_return_mean"] > 0.97 * PointMassEnv.BEST_RETURN
    assert run.record["result"]["learned_true_correlation"] is None
    assert not (run.path / "labels.db").exists()
    with pytest.raises(UserError, match="learned from the true reward"):
        run.reward(np.zeros((1, 4)), np.zeros((1, 2)))


def test_discrete_actions(tmp_path, monkeypatch):
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
    monkeypatch.chdir("/")  # the oracle is found from anywhere
    summary = prefrl.evaluate(tmp_path / "car", episodes=5)
    assert before["label/answered"] >= 10
    assert summary["oracle_return"]["mean"] > 1.0, "a random car reaches 0.5 to 0.8"
    observations = np.array([[-0.5, 0], [-0.5, 0.06]])
    rewards = run.reward(observations, run.policy.predict(observations))
    assert rewards[1] > rewards[0], "actions are taken as the policy gives them"


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
    store = runs[0].labels
    assert store.pending() == [], "nobody answers, so nobody is asked"
    store.close()
    nan = json.loads((runs[1].path / "run.json").read_text(), parse_constant=pytest.fail)
    assert nan["result"]["true_return_mean"] is None


def test_labels_from_a_run_of_the_same_seed_come_on_top(tmp_path):
    """It begins with the same clips: none is asked about again, and no label is asked less."""
    options = SMALL | {"labels": 24}
    first = prefrl.train("prefrl/PointMass-v0", out=tmp_path / "first", **options)
    again = prefrl.train(
        "prefrl/PointMass-v0", out=tmp_path / "again", labels_from=first.label_file, **options
    )
    store = again.labels
    queries = [label.query for label in store.labels()]
    assert store.count_asked() == options["labels"]
    assert len(queries) == 2 * options["labels"]
    clips = [clip for query in queries for clip in (query.left_clip, query.right_clip)]
    assert len(set(clips)) == len(clips)
    assert store.has_taken_over(store.clip(queries[0].left_clip))
    assert not store.has_taken_over(store.clip(queries[-1].left_clip))
    store.close()


def test_info_of_any_kind_is_survived(tmp_path):
    (tmp_path / "odd.py").write_text(
        "import gymnasium as gym, numpy as np\n"
        "from envs.point_mass import PointMassEnv\n"
        "class Odd(PointMassEnv):\n"
        "    n = 0\n"
        "    def step(self, action):\n"
        "        Odd.n += 1\n"
        "        o, r, te, tr, i = super().step(action)\n"
        "        i |= {'flag': True, 'word': 'x', 'list': [1], 'array': np.ones(2)}\n"
        "        i['episode'] = Odd.n\n"
        "        i['changes'] = 1.0 if Odd.n % 11 else None\n"
        "        return o, r, te, tr, i if Odd.n % 5 else {}\n"
        "gym.register(id='Odd-v0', entry_point=Odd, max_episode_steps=60)\n"
    )
    run = prefrl.train("odd:Odd-v0", preset="prefrl/PointMass-v0", out="run", **SMALL)
    store = run.labels
    clip = store.clip(store.labels()[0].query.left_clip)
    store.close()
    assert clip.infos.keys() == {"flag", "episode", "changes", "x_velocity", "y_velocity"}
    assert np.isnan(clip.infos["changes"]).any()


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
    from prefrl.configfile import load_config

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


@pytest.mark.parametrize("memory", [4, 0])
def test_scale_of_returns_follows_the_latest_rollouts_if_it_should(tmp_path, memory):
    """How generous an early reward was must not decide how small later ones look."""
    venv = DummyVecEnv([lambda: gym.make("prefrl/PointMass-v0")] * 4)
    recorder = prefrl.ClipRecorder(venv, length=15, rollout_steps=60)
    ensemble = prefrl.RewardEnsemble(*recorder.dims)
    store = prefrl.LabelStore(tmp_path / "labels.db")
    schedule = prefrl.LabelSchedule(budget=8, until=480)
    loop = prefrl.PreferenceLoop(
        recorder, ensemble, store, prefrl.Oracle(), schedule, scale_memory=memory
    )
    normalise = VecNormalize(prefrl.LearnedReward(recorder, ensemble))
    agent = PPO("MlpPolicy", normalise, n_steps=60, batch_size=60, n_epochs=1, device="cpu")
    agent.learn(960, callback=loop)
    assert ensemble.fitted
    normalise.ret_rms.var, normalise.ret_rms.count = np.array(1e6), 1e6
    rollouts = 20
    agent.learn(240 * rollouts, callback=loop, reset_num_timesteps=False)
    followed = normalise.ret_rms.var < 1e6 * 0.8 ** (rollouts - 2)
    assert followed == (memory > 0)
    store.close()


def test_no_update_before_the_first_label(tmp_path):
    (tmp_path / "late.yaml").write_text(
        Path(PRESETS / "prefrl-PointMass-v0.yaml")
        .read_text()
        .replace("budget: 60", "budget: 60\n  initial: 0.9")
    )
    run = prefrl.train(
        "prefrl/PointMass-v0", preset="late.yaml", steps=4800, labels=50, out="run", quiet=True
    )
    rows = read_metrics(run.path / "metrics.csv")
    waiting = [row for row in rows if not row["label/answered"] > 0]
    assert waiting
    fitted = rows[len(waiting)]  # after a rollout whose rewards were still zeros
    assert fitted["label/answered"] > 0
    assert all(math.isnan(row["rollout/approx_kl"]) for row in [*waiting, fitted])
    assert not math.isnan(rows[len(waiting) + 1]["rollout/approx_kl"])
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
