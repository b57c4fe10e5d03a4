"""Runs that end in the middle of things: nothing stays open, and what is said of them is so."""

import signal
import sqlite3
import subprocess
import sys

import pytest
from compare import SMALL

import prefrl
import prefrl.training
from prefrl.agent.stack import Stack
from prefrl.configfile import PRESETS
from prefrl.errors import CodeFailed, Interrupted, RunFailed, UserError
from prefrl.interrupts import stop_at_once, watch_interrupts
from prefrl.labels.store import LabelStore
from prefrl.run import Run
from prefrl.training import Training

POINT = "prefrl/PointMass-v0"


@pytest.fixture
def closed(monkeypatch):
    """Names of what has been closed, in order."""
    names = []

    def watch(kind):
        close = kind.close

        def closing(self):
            names.append(kind.__name__)
            close(self)

        monkeypatch.setattr(kind, "close", closing)

    for kind in (LabelStore, Stack):
        watch(kind)
    return names


def state_of(run):
    with run.labels as store:
        return store.facts()["state"]


def test_what_was_opened_is_closed_where_a_run_cannot_begin(closed, monkeypatch):
    def fail(*_):
        raise UserError("metrics.csv is damaged")

    monkeypatch.setattr(prefrl.training, "MetricsLog", fail)
    with pytest.raises(UserError, match="is damaged"):
        prefrl.train(POINT, out="run", **SMALL)
    assert closed == ["Stack", "LabelStore"]


def test_a_run_that_could_not_be_evaluated_has_not_finished(closed, monkeypatch):
    def fail(*_):
        raise CodeFailed("the oracle fails on a clip")

    with monkeypatch.context() as patch:
        patch.setattr(prefrl.training, "roll_out", fail)
        with pytest.raises(RunFailed, match=r"mend it, then `prefrl resume run` goes on$"):
            prefrl.train(POINT, out="run", **SMALL)
    assert closed == ["Stack", "LabelStore"]
    run = Run("run")
    assert run.record["result"] is None
    assert state_of(run) == "training"
    prefrl.resume(run, quiet=True)
    assert state_of(run) == "finished"


def test_a_signal_while_the_policy_is_evaluated_stops_the_run(monkeypatch):
    def evaluate(*_):
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it went on")

    with monkeypatch.context() as patch:
        patch.setattr(prefrl.training, "roll_out", evaluate)
        with pytest.raises(Interrupted, match=r"^interrupted: `prefrl resume run` goes on$"):
            prefrl.train(POINT, out="run", **SMALL)
    run = prefrl.resume("run", quiet=True)
    assert run.record["result"]["steps"] == SMALL["steps"]


def test_a_signal_in_the_last_rollout_stops_before_the_evaluation(monkeypatch):
    learn = Training._learn

    def train(training):
        learn(training)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Training, "_learn", train)
    monkeypatch.setattr(prefrl.training, "roll_out", lambda *_: pytest.fail("it was evaluated"))
    with pytest.raises(Interrupted, match="prefrl resume run"):
        prefrl.train(POINT, out="run", **SMALL)


def test_signals_have_their_handlers_back_afterwards():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with watch_interrupts() as received:
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt), stop_at_once():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_store_that_another_program_locks_is_not_called_a_full_disk(tmp_path, monkeypatch):
    def locked(training):
        with training._opened, LabelStore(tmp_path / "run/labels.db", patience=0.0) as store:
            training._store.db.execute("BEGIN IMMEDIATE")
            store.note(step=1)

    monkeypatch.setattr(Training, "go", locked)
    with pytest.raises(RunFailed, match=r"another program keeps 'run/labels.db' locked") as caught:
        prefrl.train(POINT, out="run", **SMALL)
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


GONE = """
import os, sys
from prefrl.keeper import RunKeeper
from prefrl.cli import main
save = RunKeeper.save
def save_and_move(self):
    save(self)
    os.rename("run", "elsewhere")
RunKeeper.save = save_and_move
sys.exit(main(["train", "prefrl/PointMass-v0", "--labels", "12", "--steps", "5760",
    "--preset", "often.yaml", "--out", "run", "--quiet"]))
"""


def test_a_folder_that_is_moved_while_it_is_trained(tmp_path):
    """In a process of its own: what TensorBoard's thread cannot write is no traceback."""
    preset = (PRESETS / "prefrl-PointMass-v0.yaml").read_text()
    (tmp_path / "often.yaml").write_text(preset + "  checkpoint_every: 960\n")
    done = subprocess.run([sys.executable, "-c", GONE], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "prefrl: the run stopped because its folder 'run' was moved or deleted: where it was "
        "moved, `prefrl resume` goes on with it there\n"
    )
    assert prefrl.resume("elsewhere", quiet=True).record["result"]["labels_answered"] == 12
