"""People and the trainer: asking, waiting, resuming, exporting, and what is refused."""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from compare import SMALL, assert_same_run
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

import prefrl
from envs.point_mass import PointMassEnv
from prefrl.cli import main
from prefrl.labellers.person import QUEUE, Person
from prefrl.labelling import export, label
from prefrl.labels.desk import Desk
from prefrl.labels.store import LabelStore
from prefrl.lock import hold, is_held
from prefrl.reward.data import LabelledClips

HUMAN = SMALL | {"labeller": "human", "wait_for_labels": True}


@pytest.fixture
def answering(monkeypatch):
    """Answers everything in a store by the true return, in a thread, until told to stop."""
    monkeypatch.setattr("prefrl.trainer.WindowProcess", NoWindow)
    stop = threading.Event()
    threads = []

    def start(path, late=None):
        def work():
            while not path.exists() and not stop.is_set():
                time.sleep(0.02)
            store = None
            while not stop.wait(0.02):
                try:
                    store = store or LabelStore(path)
                    for query in store.pending():
                        if query.id == late and store.count_asked() < late + 3:
                            continue
                        clips = (query.left_clip, query.right_clip)
                        left, right = (store.clip(c).true_rewards.sum() for c in clips)
                        answer = "left" if left > right else "right"
                        store.answer(query.id, answer, labeller="ada", seconds=0.1)
                except sqlite3.OperationalError:
                    continue
            if store:
                store.close()

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()


class NoWindow:
    """In the place of a window that nobody would look at."""

    def __init__(self, run):
        pass

    def news(self):
        return None

    def release(self):
        pass


def test_a_person_teaches_the_point_mass(answering, tmp_path):
    answering(tmp_path / "taught" / "labels.db")
    run = prefrl.train(
        "prefrl/PointMass-v0",
        labeller="human",
        wait_for_labels=True,
        ask="Which one is faster?",
        out="taught",
        quiet=True,
    )
    assert run.record["result"]["true_return_mean"] > 0.95 * PointMassEnv.BEST_RETURN
    assert run.config.labels.question == "Which one is faster?"
    store = run.labels
    assert store.facts()["state"] == "finished"
    assert store.count_asked() == 60
    store.close()


@pytest.mark.parametrize("late", [None, 5])
def test_a_run_on_peoples_answers_resumes_exactly(answering, tmp_path, late):
    """Each answer is learned from at the step and in the order that it was the first time."""
    answering(tmp_path / "once" / "labels.db", late)
    preset = Path("often.yaml")
    preset.write_text("run: {checkpoint_every: 960}\nagent: {n_steps: 60, batch_size: 60}\n")
    once = prefrl.train("prefrl/PointMass-v0", out="once", preset="often.yaml", **HUMAN)
    shutil.copytree("once", "again")
    kept = sorted(Path("again/checkpoints").iterdir(), key=lambda path: int(path.name[5:]))
    shutil.rmtree(kept[-1])
    record = json.loads(Path("again/run.json").read_text())
    Path("again/run.json").write_text(json.dumps(record | {"result": None}))
    assert_same_run(once, prefrl.resume("again", quiet=True))


def test_without_waiting_the_agent_trains_to_the_end(answering, tmp_path):
    answering(tmp_path / "free" / "labels.db")
    run = prefrl.train(
        "prefrl/PointMass-v0", out="free", **(HUMAN | {"wait_for_labels": False, "steps": 12_000})
    )
    result = run.record["result"]
    assert result["steps"] >= 12_000
    assert 5 <= result["labels_answered"] <= 12
    store = run.labels
    asked = store.db.execute("SELECT step, count(*) FROM queries GROUP BY step").fetchall()
    assert max(count for _, count in asked) <= QUEUE
    store.close()


def test_nobody_there_says_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("prefrl.trainer.WindowProcess", NoWindow)
    arguments = ["train", "prefrl/PointMass-v0", "--labeller", "human", "--out", "alone"]
    assert main([*arguments, "--labels", "12", "--steps", "3840", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "0 labels were given in 3840 steps" in error
    assert "--wait-for-labels" in error


def test_answers_are_learned_from_in_the_order_in_which_they_came(asked_run):
    """What a member is validated on depends on that order, and must be the same after a resume."""
    store = asked_run(8).labels
    queries = store.pending()
    lived = LabelledClips(store, members=3, seed=0)
    for step, answers in ((961, [5, 6]), (1921, [1, 2]), (2881, [5, 0])):
        for i in answers:
            answer = "withdrawn" if (step, i) == (2881, 5) else "left"
            store.answer(queries[i].id, answer, labeller="ada", seconds=1, step=step)
        lived.update(step + 959)
    resumed = LabelledClips(store, members=3, seed=0)
    resumed.catch_up(3840)
    for name in ("inputs", "preferences", "weights", "held_out"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(lived, name))
    store.close()


def test_an_answer_given_while_pairs_are_chosen_changes_nothing_in_a_resumed_run(tmp_path):
    """How many are asked depends on what had been answered by the rollout before."""
    schedule = prefrl.LabelSchedule(budget=40, until=5000, initial=0.5)
    asked = []
    for answers_early in (False, True):
        path = tmp_path / f"{answers_early}.db"
        agent, loop, store = make_loop(path, queue=6, schedule=schedule)
        select = loop.select

        def watch(step, select=select, store=store, early=answers_early):
            pairs = [] if early else select(step)
            if step == 960:
                for query in store.pending()[:5]:
                    store.answer(query.id, "left", labeller="ada", seconds=1)
            return select(step) if early else pairs

        loop.select = watch
        agent.learn(1440, callback=loop)
        rows = store.db.execute("SELECT step, count(*) FROM queries GROUP BY step")
        asked.append(rows.fetchall())
        store.close()
    assert asked[0] == asked[1] == [(480, 6), (1440, 5)]


def make_loop(path, *, queue, schedule, batch=4):
    venv = DummyVecEnv([PointMassEnv] * 4)
    recorder = prefrl.ClipRecorder(venv, length=15, rollout_steps=120, rng=np.random.default_rng(0))
    ensemble = prefrl.RewardEnsemble(*recorder.dims)
    person = Person(schedule)
    store = LabelStore(path)
    loop = prefrl.PreferenceLoop(
        recorder, ensemble, store, person, schedule, queue=queue, batch=batch
    )
    agent = PPO("MlpPolicy", prefrl.LearnedReward(recorder, ensemble), n_steps=120, batch_size=96)
    return agent, loop, store


def test_no_more_pairs_lie_with_a_person_than_the_queue_holds(tmp_path):
    schedule = prefrl.LabelSchedule(budget=40, until=5000, initial=0.5)
    agent, loop, store = make_loop(tmp_path / "labels.db", queue=6, schedule=schedule)
    pending = []
    ask = loop.ask

    def watch(pairs, step):
        ask(pairs, step)
        pending.append(store.count_pending())
        for query in store.pending()[:3]:
            store.answer(query.id, "left", labeller="ada", seconds=1)

    loop.ask = watch
    agent.learn(4000, callback=loop)
    assert pending[0] == 6, "there are pairs after the first rollout already"
    assert max(pending) == 6
    assert store.count_answered() > 15
    store.close()


def test_the_first_batch_is_asked_as_its_clips_come(tmp_path):
    schedule = prefrl.LabelSchedule(budget=80, until=10_000, initial=0.25)
    agent, loop, store = make_loop(tmp_path / "labels.db", queue=80, schedule=schedule, batch=20)
    agent.learn(960, callback=loop)
    asked = store.db.execute("SELECT step, count(*) FROM queries GROUP BY step").fetchall()
    # A rollout of 4 x 120 steps has 32 clips for 16 pairs, and 20 are in the first batch: what is
    # due beside is asked at once, although it is less than a batch.
    assert asked == [(480, 16), (960, schedule.due(960) - 16)]
    store.close()


def test_the_schedule_follows_the_labels_that_were_given(tmp_path):
    """What was never answered is replaced, and costs nothing of the budget."""
    schedule = prefrl.LabelSchedule(budget=12, until=3000, initial=0.5)
    agent, loop, store = make_loop(tmp_path / "labels.db", queue=6, schedule=schedule)
    ask = loop.ask

    def watch(pairs, step):
        ask(pairs, step)
        store.withdraw_outgrown(step, until=step - 900)
        for query in store.pending()[:1]:
            store.answer(query.id, "left", labeller="ada", seconds=1)

    loop.ask = watch
    agent.learn(8000, callback=loop)
    assert store.db.execute("SELECT count(*) FROM outgrown").fetchone()[0] > 5
    assert store.count_asked() == 12
    assert store.count_answered() == 12
    store.close()


def test_a_run_has_one_trainer(asked_run, capsys):
    run = asked_run()
    with hold(run.training_lock) as held:
        assert held
        assert is_held(run.training_lock)
        assert main(["resume", str(run.path)]) == 2
    error = capsys.readouterr().err
    assert "is being trained by another process" in error
    assert error.count("\n") == 1
    assert not is_held(run.training_lock)


def test_answers_on_a_read_only_disk_can_be_exported(asked_run, monkeypatch, capsys):
    run = asked_run(3)
    store = run.labels
    for query in store.pending():
        store.answer(query.id, "left", labeller="ada", seconds=1)
    store.close()
    connect = sqlite3.connect

    def refuse(place, **options):  # what SQLite says of a WAL database where it cannot write
        if "immutable" not in place:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(place, **options)

    monkeypatch.setattr(sqlite3, "connect", refuse)
    assert len(export(run, "labels.csv").read_text().splitlines()) == 4
    assert main(["label", str(run.path)]) == 2
    assert "no answer could be saved" in capsys.readouterr().err


def test_windows_share_their_lock(asked_run):
    run = asked_run()
    with hold(run.window_lock, shared=True) as one, hold(run.window_lock, shared=True) as two:
        assert one
        assert two
        assert is_held(run.window_lock)
    assert not is_held(run.window_lock)


def test_export(asked_run):
    run = asked_run()
    store = run.labels
    desk = Desk(store, labeller="ada", probes=0, rng=np.random.default_rng(0))
    claims = desk.take(3)
    for claim, answer in zip(claims, ("left", "equal", "skip"), strict=True):
        desk.answer(claim, answer, seconds=1.25)
    desk.retake(claims[1])
    labels = store.labels()
    store.close()
    with export(run, "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {
            "query": str(given.query.id),
            "answer": given.answer,
            "left_clip_on": "right" if given.swapped else "left",
            "labeller": "ada",
            "seconds": "1.250",
            "step_asked": str(given.query.step),
            "step_answered": "961",
            "repeats": "",
        }
        for given in labels
    ]
    assert len(rows) == 2


REFUSED = {
    "true reward": (lambda run: rewrite(run, "true_reward: false", "true_reward: true"), "true"),
    "no store": (lambda run: run.label_file.unlink(), "has no label store"),
    "newer store": (lambda run: newer(run.label_file), "upgrade prefrl"),
    "no store at all": (lambda run: run.label_file.write_text("x" * 900), "not a label store"),
    "oracle": (lambda run: rewrite(run, "labeller: human", "labeller: oracle"), "--review"),
    "not installed": (lambda run: rewrite(run, "prefrl/PointMass", "prefrl/Pointmess"), "mean"),
    "no module": (lambda run: rewrite(run, "prefrl/PointMass", "nowhere:Robot"), "'nowhere'"),
}


def rewrite(run, old, new):
    config = run.path / "config.yaml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))


def newer(path):
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_labelled_is_said_in_a_sentence(asked_run, capsys, case):
    run = asked_run(2)
    spoil, words = REFUSED[case]
    spoil(run)
    before = record_of(run.label_file)
    assert main(["label", str(run.path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert record_of(run.label_file) == before


def record_of(path):
    """What a store holds, claims aside, or the bytes of what is none."""
    if not path.exists():
        return None
    db = sqlite3.connect(path)
    try:
        return [db.execute(f"SELECT * FROM {table}").fetchall() for table in ("queries", "answers")]
    except sqlite3.DatabaseError:
        return path.read_bytes()
    finally:
        db.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--probes", "0.7"], "from 0 to 0.5"),
        (["--probes", "nan"], "from 0 to 0.5"),
        (["--export", "nowhere/labels.csv"], "cannot write"),
        (["--export", "run/labels.db"], "must end in .csv"),
        (["--labeller", "\udcff"], "printable"),
    ],
)
def test_wrong_arguments(asked_run, capsys, arguments, words):
    assert main(["label", str(asked_run(0).path), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_waiting_for_nobody_is_refused(capsys):
    assert main(["train", "prefrl/PointMass-v0", "--wait-for-labels"]) == 2
    assert "--wait-for-labels needs --labeller human" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("question", ["", "   ", "which\0one", "\udcff"])
def test_an_empty_question_is_refused(question, capsys):
    arguments = ["train", "prefrl/PointMass-v0", "--labeller", "human", "--ask", question]
    assert main(arguments) == 2
    assert "question" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_window_can_be_opened_twice_in_one_process(asked_run, monkeypatch):
    """Nothing of a closed window lives on, such as fonts of a display that is gone."""
    from prefrl.labellers.window import Window

    run = asked_run(4)

    def loop(window):
        for _ in range(20):
            window.tick()
            time.sleep(0.01)
        window._window.destroy()

    monkeypatch.setattr(Window, "loop", loop)
    for _ in range(2):
        assert f"`prefrl label {run.path}`" in label(run)


def test_import_of_the_window_needs_no_torch():
    script = (
        "import sys, prefrl.labelling, prefrl.labellers.player, prefrl.labellers.window, "
        "prefrl.labellers.session; sys.exit('torch' in sys.modules or "
        "'stable_baselines3' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)
