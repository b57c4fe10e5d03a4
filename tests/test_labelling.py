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
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compare import SMALL, assert_same_run

import prefrl
from envs.point_mass import PointMassEnv
from prefrl.cli import main
from prefrl.errors import RunFailed, UserError
from prefrl.labellers.person import QUEUE
from prefrl.labelling import export, label
from prefrl.labels.desk import Desk
from prefrl.labels.store import LabelStore
from prefrl.lock import hold, is_held

HUMAN = SMALL | {"labeller": "human", "wait_for_labels": True}


@pytest.fixture
def answering(monkeypatch):
    """Answers everything in a store by the true return, in a thread, until told to stop."""
    monkeypatch.setattr("prefrl.training.WindowProcess", NoWindow)
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


@pytest.fixture
def take_display(monkeypatch):
    """Takes the display away."""

    def none():
        raise UserError("no display for the window")

    def take():
        for module in ("training", "checks"):
            monkeypatch.setattr(f"prefrl.{module}.check_display", none)

    return take


def test_without_a_display_only_a_run_that_waits_is_not_resumed(take_display, asked_run, capsys):
    take_display()
    run = asked_run(wait=True)
    with pytest.raises(UserError, match=r"^no display for the window$"):
        prefrl.resume(run.path, quiet=True)
    run.config = replace(run.config, labels=replace(run.config.labels, wait=False))
    again = (
        r"`prefrl train prefrl/PointMass-v0 --preset \S+/run/config.yaml --wait-for-labels` starts"
    )
    with pytest.raises(RunFailed, match=again):
        prefrl.resume(run)
    assert "no display for the window; the run goes on without a window" in capsys.readouterr().err


def test_labels_taken_over_leave_others_to_give(monkeypatch, point_mass_run):
    opened = []
    monkeypatch.setattr(NoWindow, "__init__", lambda self, run: opened.append(run.path))
    monkeypatch.setattr("prefrl.training.WindowProcess", NoWindow)
    options = SMALL | {"labeller": "human", "labels_from": point_mass_run.label_file}
    assert opened == [prefrl.train("prefrl/PointMass-v0", **options).path]


def test_who_would_answer_is_not_asked_where_the_true_reward_is_learned_from():
    run = prefrl.train("prefrl/PointMass-v0", true_reward=True, labeller="human", **SMALL)
    assert run.record["result"]["labels_answered"] == 0


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
def test_a_run_on_peoples_answers_resumes_exactly(answering, take_display, tmp_path, late):
    """Each answer is learned from at the step and in the order that it was the first time.

    All are given, so nobody needs a window any more.
    """
    answering(tmp_path / "once" / "labels.db", late)
    preset = Path("often.yaml")
    preset.write_text("run: {checkpoint_every: 960}\nagent: {n_steps: 60, batch_size: 60}\n")
    once = prefrl.train("prefrl/PointMass-v0", out="once", preset="often.yaml", **HUMAN)
    shutil.copytree("once", "again")
    kept = sorted(Path("again/checkpoints").iterdir(), key=lambda path: int(path.name[5:]))
    shutil.rmtree(kept[-1])
    record = json.loads(Path("again/run.json").read_text())
    Path("again/run.json").write_text(json.dumps(record | {"result": None}))
    take_display()
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
    monkeypatch.setattr("prefrl.training.WindowProcess", NoWindow)
    arguments = ["train", "prefrl/PointMass-v0", "--labeller", "human", "--out", "alone"]
    assert main([*arguments, "--labels", "12", "--steps", "3840", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "0 labels were given in 3840 steps" in error
    assert "--wait-for-labels" in error
    store = LabelStore(tmp_path / "alone" / "labels.db", read_only=True)
    assert store.facts()["state"] == "untaught"
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


@pytest.fixture
def answered_run(asked_run):
    run = asked_run(3)
    store = run.labels
    for query in store.pending():
        store.answer(query.id, "left", labeller="ada", seconds=1)
    store.close()
    return run


REFUSALS = {
    "unable to open database file": sqlite3.SQLITE_CANTOPEN,
    "attempt to write a readonly database": sqlite3.SQLITE_READONLY_DIRECTORY,
}
"""What SQLite says of a WAL database: on a read-only disk, and in another user's folder."""


def refuse_sqlite(monkeypatch, words, unless="immutable"):
    """Have SQLite say of each database that it cannot be opened, unless its address has a word."""
    connect = sqlite3.connect

    def refuse(place, **options):
        if unless not in place:
            error = sqlite3.OperationalError(words)
            error.sqlite_errorcode = REFUSALS[words]
            raise error
        return connect(place, **options)

    monkeypatch.setattr(sqlite3, "connect", refuse)


@pytest.mark.parametrize("words", REFUSALS)
def test_answers_on_a_read_only_disk_can_be_exported(answered_run, words, monkeypatch, capsys):
    refuse_sqlite(monkeypatch, words)
    assert len(export(answered_run, "labels.csv").read_text().splitlines()) == 4
    assert main(["label", str(answered_run.path)]) == 2
    assert "no answer could be saved" in capsys.readouterr().err


def test_answers_in_a_log_that_cannot_be_read_are_not_passed_over(answered_run, monkeypatch):
    refuse_sqlite(monkeypatch, "unable to open database file")
    log = answered_run.path / "labels.db-wal"
    log.write_bytes(b"")
    export(answered_run, "labels.csv")
    log.write_bytes(b"more answers")
    Path("linked.db").symlink_to(answered_run.label_file)
    for path in (answered_run.label_file, Path("linked.db")):  # SQLite has the log beside the file
        with pytest.raises(UserError, match=r"'labels\.db-wal' holds its latest answers"):
            LabelStore(path, read_only=True)


def test_a_store_that_cannot_be_read_is_named(answered_run, monkeypatch):
    refuse_sqlite(monkeypatch, "unable to open database file", unless="nowhere")
    with pytest.raises(UserError, match=r"cannot read '.*labels\.db': unable to open"):
        export(answered_run, "labels.csv")


def test_a_review_is_no_window_to_answer_in(answered_run, monkeypatch):
    def look(window):
        held.append((is_held(answered_run.window_lock), is_held(answered_run.review_lock)))

    held: list[tuple[bool, bool]] = []
    monkeypatch.setattr("prefrl.labellers.window.Window.loop", look)
    prefrl.label(answered_run, review=True)
    prefrl.label(answered_run)
    assert held == [(False, True), (True, False)]


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
    with export(run, "new/labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {
            "query": str(given.query.id),
            "answer": given.answer,
            "left_clip_on": "right" if given.swapped else "left",
            "labeller": "ada",
            "seconds": "1.250",
            "step_asked": str(given.query.step),
            "step_answered": str(max(961, given.query.step)),
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
        (["--export", "/proc/nowhere/labels.csv"], "cannot write"),
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
