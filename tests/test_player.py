import os
import shutil
import signal
import sqlite3
import threading
import time
from contextlib import nullcontext

import numpy as np
import pytest
from compare import drawn_here, point_mass_clip, until

from prefrl.labellers.player import AHEAD, KEPT_CLIPS, Player, open_store
from prefrl.labellers.reel import Reel
from prefrl.labelling import at_window
from prefrl.labels.desk import Desk, end_claims
from prefrl.lock import hold, is_held


@pytest.fixture
def player(asked_run):
    players = []

    def start(pairs=12, **options):
        players.append(Player(asked_run(pairs), labeller="ada", probes=0.0, **options))
        players[-1].start()
        return players[-1]

    yield start
    for player in players:
        player.close()


def all_drawn(player):
    return len(player.claims) == AHEAD and all(player.pair(claim) for claim in player.claims)


def test_pairs_are_in_memory_before_they_are_needed(player):
    playing = player()
    until(lambda: all_drawn(playing))
    claim = playing.claims[0]
    pair = playing.pair(claim)
    left, _ = claim.shown
    expected = drawn_here(playing._run.config.env, point_mass_clip(left - 1))
    np.testing.assert_array_equal(pair.left, expected)
    for _ in range(6):
        with playing.lock:
            playing.claims.pop(0)
        until(lambda: all_drawn(playing))
    assert len(playing._reels) <= KEPT_CLIPS


def test_a_drawing_process_that_dies_is_replaced(player):
    playing = player()
    until(lambda: all_drawn(playing))
    os.kill(playing._maker._process.pid, signal.SIGKILL)
    for _ in range(AHEAD):
        with playing.lock:
            playing.claims.pop(0)
    until(lambda: all_drawn(playing))
    assert playing.failure is None


def test_damaged_and_deleted_frames_are_drawn_again(player):
    playing = player()
    until(lambda: all_drawn(playing))
    folder = playing._run.path / "frames"
    for i in range(24):  # as an interrupted disk may leave them
        (folder / f"{point_mass_clip(i).digest()}.npy").write_bytes(b"")
    for _ in range(2):
        with playing.lock:
            playing.claims.pop(0)
    until(lambda: all_drawn(playing))
    shutil.rmtree(folder)
    for _ in range(2):
        with playing.lock:
            playing.claims.pop(0)
    until(lambda: all_drawn(playing))


def test_a_store_that_cannot_be_read_ends_the_window(player, monkeypatch):
    def take(*_):
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(Desk, "take", take)
    playing = player()
    until(lambda: playing.failure)
    assert "store cannot be used: DatabaseError: database disk image" in playing.failure


def test_frames_that_cannot_be_loaded_end_the_window(player, monkeypatch):
    def load(_):
        raise MemoryError("Unable to allocate 4 GiB")

    monkeypatch.setattr(Reel, "load", load)
    playing = player()
    until(lambda: playing.failure)
    assert "clips cannot be drawn: MemoryError: Unable to allocate" in playing.failure


def test_frames_of_a_few_large_clips_are_kept(player, monkeypatch):
    """Those in hand are, whatever they take; those beside only within a bound."""
    monkeypatch.setattr("prefrl.labellers.player.KEPT_BYTES", 3 * 15 * 240 * 320 * 3)
    playing = player()
    until(lambda: all_drawn(playing))
    for _ in range(6):
        with playing.lock:
            playing.claims.pop(0)
        until(lambda: all_drawn(playing))
    assert len(playing._reels) <= 2 * AHEAD + 3


def test_whoever_wakes_up_lets_others_keep_their_pairs(player, monkeypatch):
    """After the machine has slept, all claims look as if their holders had died."""
    working = player(AHEAD)
    until(lambda: len(working.claims) == AHEAD)
    store = working._run.labels
    desk = Desk(store, labeller="ada", probes=0.0, rng=np.random.default_rng(0))
    for claim in working.claims:
        Desk(store, labeller="ada", rng=desk._rng, session=working.session).show(claim)
    idle = Player(working._run, labeller="bob", probes=0.0)
    idle.start()
    time.sleep(0.3)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    time.sleep(1.5)
    assert idle.claims == []
    assert len(working.claims) == AHEAD
    idle.close()
    store.close()


def test_progress_is_that_of_the_run(player):
    playing = player()
    until(lambda: playing.progress.waiting == 12)
    assert (playing.progress.budget, playing.progress.step) == (40, 960)
    assert playing.progress.state == "paused", "nobody trains it"


def test_claims_of_a_killed_window_do_not_keep_the_next_one_waiting(asked_run):
    run = asked_run(3)
    store = run.labels
    dead = Desk(store, labeller="ada", probes=0.0, rng=np.random.default_rng(0))
    assert len(dead.take(3)) == 3
    for others, found in ((hold(run.window_lock, shared=True), 1), (nullcontext(), 3)):
        with others, at_window(run):
            playing = Player(run, labeller="ada", probes=0.0)
            playing.start()
            until(lambda playing=playing, found=found: len(playing.claims) == found)
            time.sleep(0.2)
            assert len(playing.claims) == found
            playing.close()
    store.close()


def test_what_another_window_takes_over_is_let_go(player):
    playing = player(AHEAD)
    until(lambda: all_drawn(playing))
    store = playing._run.labels
    rng = np.random.default_rng(0)
    first = playing.claims[0]
    Desk(store, labeller="ada", rng=rng, session=playing.session).show(first)
    (taken,) = Desk(store, labeller="bob", probes=0.0, rng=rng).take(1)
    until(lambda: len(playing.claims) == AHEAD - 1)
    assert taken.query.id not in {claim.query.id for claim in playing.claims}
    assert playing.claims[0] == first
    store.answer(first.query.id, "left", labeller="bob", seconds=1)
    end_claims(store)
    until(lambda: first not in playing.claims)
    store.close()


def test_closing_lets_go_of_the_claims(asked_run):
    run = asked_run()
    playing = Player(run, labeller="ada", probes=0.0)
    playing.start()
    until(lambda: len(playing.claims) == AHEAD)
    store = run.labels
    assert store.db.execute("SELECT count(*) FROM claims").fetchone()[0] == AHEAD
    playing.close()
    assert store.db.execute("SELECT count(*) FROM claims").fetchone()[0] == 0
    store.close()


def test_windows_share_their_lock(asked_run):
    run = asked_run()
    with hold(run.window_lock, shared=True) as one, hold(run.window_lock, shared=True) as two:
        assert one
        assert two
        assert is_held(run.window_lock)
    assert not is_held(run.window_lock)


def test_a_window_that_opens_waits_for_one_that_ends_claims(asked_run):
    run = asked_run()
    held, let_go = threading.Event(), threading.Event()

    def end_claims():
        with hold(run.window_lock):
            held.set()
            let_go.wait(10)

    thread = threading.Thread(target=end_claims)
    thread.start()
    held.wait(10)
    threading.Timer(0.6, let_go.set).start()  # longer than a lock is waited for as a rule
    with at_window(run):
        thread.join()
        assert is_held(run.window_lock)


def test_the_log_is_folded_while_a_window_is_open(player, monkeypatch):
    said = []

    def traced(run):
        store = open_store(run)
        store.db.set_trace_callback(said.append)
        return store

    monkeypatch.setattr("prefrl.labellers.player.open_store", traced)
    monkeypatch.setattr("prefrl.labellers.player.FOLD", 4)
    player()
    until(lambda: "PRAGMA wal_checkpoint(PASSIVE)" in said)
