import multiprocessing
import os
import signal
import sqlite3

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefrl.errors import UserError
from prefrl.labels.answers import PREFERENCE
from prefrl.labels.schema import MIGRATIONS, VERSION
from prefrl.labels.store import RECENT, LabelStore


@pytest.fixture
def store(tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    yield store
    store.close()


def test_answer_round_trip(store, make_clip):
    left, right = make_clip(1.0), make_clip(2.0)
    query = store.ask(left, right, step=10, rule="random")
    assert [q.id for q in store.pending()] == [query]
    store.answer(query, "right", labeller="me", seconds=1.5, step=12, swapped=True)
    assert store.pending() == []
    (label,) = store.labels()
    assert (label.answer, label.preference, label.labeller) == ("right", 0.0, "me")
    assert (label.seconds, label.swapped, label.step, label.query.step) == (1.5, True, 12, 10)
    from_disk = LabelStore(store.path)
    again = from_disk.clip(label.query.left_clip)
    from_disk.close()
    np.testing.assert_array_equal(again.observations, left.observations)
    np.testing.assert_array_equal(again.states, left.states)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(answers=st.lists(st.sampled_from([*PREFERENCE, "withdrawn"]), max_size=6))
def test_latest_answer_stands_and_all_stay(tmp_path_factory, make_clip, answers):
    store = LabelStore(tmp_path_factory.mktemp("store") / "labels.db")
    query = store.ask(make_clip(1.0), make_clip(2.0), step=1, rule="random")
    for answer in answers:
        store.answer(query, answer, labeller="me", seconds=0, step=2)
    standing = [label.answer for label in store.labels()]
    assert standing == [a for a in answers[-1:] if a != "withdrawn"]
    assert bool(store.pending()) == (not standing)
    assert store.count_answered() == len(standing)
    kept = sqlite3.connect(store.path).execute("SELECT answer FROM answers ORDER BY id").fetchall()
    assert [row[0] for row in kept] == answers
    store.close()


def test_until_step_hides_the_future(store, make_clip):
    for step in (10, 20):
        query = store.ask(make_clip(step), make_clip(step + 1), step=step, rule="random")
        store.answer(query, "left", labeller="me", seconds=0, step=step + 5)
    assert [label.step for label in store.labels(until_step=24)] == [15]
    assert store.count_answered(24) == 1
    assert [store.latest_answer(step) for step in (14, 15, 24, 25)] == [
        (0, 0),
        (1, 15),
        (1, 15),
        (2, 25),
    ]
    assert store.count_asked(20) == 2
    assert store.count_asked(19) == 1


def test_pair_asked_again_is_the_same_query(store, make_clip):
    a, b, c = make_clip(1.0), make_clip(2.0), make_clip(3.0)
    query = store.ask(a, b, step=1, rule="random")
    assert store.ask(a, b, step=5, rule="random") == query
    assert store.ask(b, a, step=5, rule="random") == query
    assert store.ask(a, c, step=5, rule="random") != query
    probe = store.ask_again(store.pending()[0])
    assert probe.id != query
    assert (probe.repeats, probe.left_clip) == (query, store.pending()[0].left_clip)
    assert store.count_asked() == 2, "a probe costs no budget"


def test_a_clip_is_never_paired_with_itself(store, make_clip):
    with pytest.raises(sqlite3.IntegrityError), store.transaction():
        store.ask(make_clip(1.0), make_clip(1.0), step=1, rule="random")
    assert store.count_asked() == 0
    pairs = [(make_clip(1.0), make_clip(1.0)), (make_clip(1.0), make_clip(2.0))]
    store.ask_all(pairs, step=1, rule="random")
    assert store.count_asked() == 1, "where clips are alike, the loop goes on with the others"


@pytest.mark.parametrize("table", ["clips", "queries", "answers", "outgrown"])
def test_rows_are_never_changed(store, make_clip, table):
    query = store.ask(make_clip(1.0), make_clip(2.0), step=1, rule="random")
    store.answer(query, "left", labeller="me", seconds=0, step=2)
    store.ask(make_clip(3.0), make_clip(4.0), step=1, rule="random")
    store.withdraw_outgrown(1, until=1)
    db = sqlite3.connect(store.path)
    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = 7"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    db.close()


def test_unknown_answer_is_refused(store, make_clip):
    query = store.ask(make_clip(1.0), make_clip(2.0), step=1, rule="random")
    with pytest.raises(sqlite3.IntegrityError):
        store.answer(query, "0", labeller="me", seconds=0, step=1)
    assert store.count_answered() == 0


def _answer_until_killed(path, queries, pipe):
    store = LabelStore(path)
    for query in queries:
        store.answer(query, "left", labeller="child", seconds=0, step=1)
        pipe.send(query)


def test_kill_loses_no_answer(store, make_clip):
    queries = [
        store.ask(make_clip(float(i)), make_clip(i + 0.5), step=1, rule="random")
        for i in range(300)
    ]
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_answer_until_killed, args=(store.path, queries, theirs))
    child.start()
    confirmed = [ours.recv() for _ in range(20)]
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    while ours.poll():
        confirmed.append(ours.recv())
    answered = [label.query.id for label in store.labels()]
    assert set(confirmed) <= set(answered)
    assert len(answered) < len(queries), "the child was too fast for this test to say anything"


def test_two_processes_share_a_store(store, make_clip):
    query = store.ask(make_clip(1.0), make_clip(2.0), step=1, rule="random")
    other = LabelStore(store.path)
    other.answer(query, "equal", labeller="other", seconds=0, step=1)
    assert [label.preference for label in store.labels()] == [0.5]
    other.close()


def test_take_over(store, make_clip, tmp_path):
    query = store.ask(make_clip(1.0), make_clip(2.0), step=10, rule="random")
    store.answer(query, "skip", labeller="me", seconds=2, step=12)
    target = LabelStore(tmp_path / "other.db")
    assert target.take_over(store) == 1
    (label,) = target.labels(until_step=0)
    assert (label.answer, label.labeller, label.preference) == ("skip", "me", None)
    assert target.count_asked() == 0, "taken-over labels cost no budget"
    target.close()


def test_labels_taken_over_are_about_the_clip_that_was_meant(store, make_clip, tmp_path):
    """Whichever way round the store that takes them over had asked about the pair."""
    better, worse = make_clip(1.0), make_clip(2.0)
    store.answer(store.ask(better, worse, step=10, rule="random"), "left", labeller="me", seconds=1)
    target = LabelStore(tmp_path / "other.db")
    query = target.ask(worse, better, step=20, rule="random")
    target.take_over(store)
    (label,) = target.labels()
    assert (label.query.id, label.answer, label.swapped) == (query, "right", True)
    target.close()


def test_clips_in_memory_are_bounded_and_never_outlive_a_rollback(store, make_clip):
    with pytest.raises(sqlite3.IntegrityError), store.transaction():
        store.ask(make_clip(1.0), make_clip(1.0), step=1, rule="random")
    with pytest.raises(KeyError, match="no clip 1"):
        store.clip(1)
    for i in range(RECENT):
        store.ask(make_clip(float(i)), make_clip(i + 0.5), step=1, rule="random")
    assert len(store._recent) == RECENT
    assert store.clip(1).true_rewards[0] == 0.0


def test_not_a_store(tmp_path):
    (tmp_path / "text.db").write_text("hello, this is no database at all" * 50)
    with pytest.raises(UserError, match="not a label store"):
        LabelStore(tmp_path / "text.db")


def test_newer_store(tmp_path):
    db = sqlite3.connect(tmp_path / "new.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UserError, match="upgrade prefrl"):
        LabelStore(tmp_path / "new.db")


def test_labels_stand_as_they_stood(store, make_clip):
    """A resumed run must learn from an answer that was withdrawn only later."""
    query = store.ask(make_clip(1.0), make_clip(2.0), step=1, rule="random")
    store.answer(query, "left", labeller="me", seconds=0, step=10)
    store.answer(query, "withdrawn", labeller="me", seconds=0, step=20)
    store.answer(query, "right", labeller="me", seconds=0, step=30)
    stood = {step: [label.answer for label in store.labels(step)] for step in (9, 10, 19, 20, 30)}
    assert stood == {9: [], 10: ["left"], 19: ["left"], 20: [], 30: ["right"]}


def test_outgrown_queries_are_replaced_and_late_answers_count(store, make_clip):
    queries = [
        store.ask(make_clip(float(i)), make_clip(i + 0.5), step=10 * (i + 1), rule="random")
        for i in range(4)
    ]
    store.answer(queries[0], "left", labeller="me", seconds=0, step=15)
    for _ in range(2):  # the second finds nothing more
        store.withdraw_outgrown(50, until=30)
    assert [query.id for query in store.pending()] == [queries[3]]
    assert (store.count_asked(), store.count_pending()) == (2, 1)
    assert (store.count_asked(49), store.count_pending(49)) == (4, 3), "as it was before"
    store.answer(queries[1], "left", labeller="me", seconds=0, step=60)
    assert (store.count_asked(), store.count_answered()) == (3, 2)
    assert store.count_asked(59) == 2


def test_ask_all_is_ask_one_by_one(store, make_clip, tmp_path):
    pairs = [(make_clip(float(i)), make_clip(i + 0.5)) for i in range(5)]
    store.ask_all(pairs, step=7, rule="hybrid")
    store.ask_all(pairs[:2], step=9, rule="hybrid")
    one_by_one = LabelStore(tmp_path / "other.db")
    for left, right in pairs:
        one_by_one.ask(left, right, step=7, rule="hybrid")
    assert store.pending() == one_by_one.pending()
    one_by_one.close()


def test_store_of_version_one_is_brought_up_to_date(tmp_path, make_clip):
    path = tmp_path / "old.db"
    db = sqlite3.connect(path)
    db.executescript(MIGRATIONS[0])
    db.execute("PRAGMA user_version = 1")
    db.execute("INSERT INTO facts VALUES ('environment', 'Hopper-v5')")
    db.commit()
    db.close()
    reader = LabelStore(path, read_only=True)
    assert (reader.labels(), reader.facts()) == ([], {"environment": "Hopper-v5"})
    reader.close()
    store = LabelStore(path)
    store.ask(make_clip(1.0), make_clip(2.0), step=5, rule="random")
    store.withdraw_outgrown(10, until=5)
    assert store.count_asked() == 0
    assert store.facts() == {"environment": "Hopper-v5", "withdrew": "10"}
    assert store.db.execute("PRAGMA user_version").fetchone()[0] == VERSION
    store.close()
