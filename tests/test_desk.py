import time
from types import SimpleNamespace

import numpy as np
import pytest
from compare import point_mass_clip

import prefrl.labels.desk as desk_module
from prefrl.labels.answers import turned
from prefrl.labels.desk import CLAIM_SECONDS, PROBE_GAP, Claim, Desk, consistency
from prefrl.labels.store import LabelStore


@pytest.fixture
def store(asked_run):
    store = asked_run(30).labels
    yield store
    store.close()


def make_desk(store, seed=0, probes=0.0, labeller="ada"):
    return Desk(store, labeller=labeller, probes=probes, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("shown", ["left", "right", "equal", "skip"])
def test_what_is_stored_is_about_the_clip_that_was_meant(store, shown, swapped):
    desk = make_desk(store)
    query = store.pending()[0]
    claim = Claim(query, swapped)
    on_screen = dict(zip(("left", "right"), claim.shown, strict=True))
    assert desk.answer(claim, shown, seconds=1.5)
    (label,) = store.labels()
    assert (label.swapped, label.seconds, label.labeller) == (swapped, 1.5, "ada")
    if shown in on_screen:
        better = {"left": query.left_clip, "right": query.right_clip}[label.answer]
        assert better == on_screen[shown]
    else:
        assert label.answer == shown


def test_own_is_its_own_inverse():
    for answer in ("left", "right", "equal", "skip"):
        for swapped in (False, True):
            assert turned(turned(answer, swapped), swapped) == answer
    assert turned("left", True) == "right"


def test_sides_are_drawn_by_lot(store):
    swapped = [claim.swapped for claim in make_desk(store).take(30)]
    assert 5 < sum(swapped) < 25


def test_the_latest_batch_comes_first(store):
    steps = [claim.query.step for claim in make_desk(store).take(30)]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] > steps[-1]


def test_two_desks_never_hold_the_same_pair(store):
    other_connection = LabelStore(store.path)
    desks = [make_desk(store), make_desk(other_connection, seed=1, labeller="bob")]
    taken = [claim.query.id for _ in range(10) for desk in desks for claim in desk.take(2)]
    assert len(taken) == len(set(taken)) == 30
    assert desks[0].take(1) == []
    assert desks[0].count_claimed() == 14
    desks[1].leave()
    assert len(desks[0].take(30)) == 14
    other_connection.close()


def test_who_has_nothing_takes_over_what_another_only_keeps_ready(store):
    keeper, other = make_desk(store), make_desk(store, labeller="bob")
    kept = keeper.take(30)
    keeper.show(kept[0])
    (taken,) = other.take(4)
    assert taken.query.id != kept[0].query.id
    assert other.take(4) == [], "one is enough to have something to do"
    assert keeper.held() == {claim.query.id for claim in kept} - {taken.query.id}
    for claim in kept[1:]:
        if claim.query != taken.query:
            keeper.answer(claim, "left", seconds=1)
    other.answer(taken, "left", seconds=1)
    assert other.take(4) == [], "nobody takes what another looks at"


def test_nobody_takes_the_pair_that_another_is_about_to_look_at(store):
    keeper, other = make_desk(store), make_desk(store, labeller="bob")
    *rest, last = keeper.take(30)
    for claim in rest:
        keeper.answer(claim, "left", seconds=1)
    assert other.take(4) == []
    assert keeper.held() == {last.query.id}


def test_a_pair_answered_elsewhere_is_not_answered_again(store):
    first, second = make_desk(store), make_desk(store, labeller="bob")
    (claim,) = first.take(1)
    assert second.answer(claim, "left", seconds=1)
    assert not first.answer(claim, "right", seconds=1)
    assert [label.labeller for label in store.labels()] == ["bob"]


def test_claims_of_the_dead_end_and_those_of_the_living_do_not(store, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(desk_module, "time", SimpleNamespace(time=lambda: now))
    dead, living = make_desk(store), make_desk(store)
    lost, kept = dead.take(10), living.take(10)
    now += 0.75 * CLAIM_SECONDS
    living.keep()
    now += 0.5 * CLAIM_SECONDS
    third = {claim.query.id for claim in make_desk(store).take(30)}
    assert {claim.query.id for claim in lost} <= third
    assert not {claim.query.id for claim in kept} & third


def test_answers_are_dated_after_the_step_noted_last(store):
    desk = make_desk(store)
    first, second = desk.take(2)
    store.note(step=9600)
    desk.answer(first, "left", seconds=1)
    assert store.labels(9600) == []
    assert len(store.labels(9601)) == 1
    store.note(step=10_560)
    desk.answer(second, "left", seconds=1)
    assert sorted(label.step for label in store.labels()) == [9601, 10_561]


def test_no_answer_is_dated_before_its_query(store):
    """The trainer notes its step only after it has waited for the pairs that it asked there."""
    store.note(step=480)
    desk = make_desk(store)
    for claim in desk.take(3):
        desk.answer(claim, "left", seconds=1)
    assert all(label.step == label.query.step for label in store.labels())


def test_taken_back_and_asked_again_sides_as_before(store):
    desk = make_desk(store)
    claims = desk.take(3)
    for claim in claims:
        desk.answer(claim, "left", seconds=1)
    assert desk.retake(claims[1])
    assert len(store.labels()) == 2
    assert store.count_pending() == 28
    assert desk.answer(claims[1], "skip", seconds=1)
    assert {label.answer for label in store.labels()} <= {"left", "right", "skip"}
    kept = store.db.execute("SELECT count(*) FROM answers").fetchone()[0]
    assert kept == 5, "the answer, its withdrawal and the new one all stay"


def test_what_was_taken_back_elsewhere_cannot_be_taken_back_again(store):
    first, second = make_desk(store), make_desk(store)
    (claim,) = first.take(1)
    first.answer(claim, "left", seconds=1)
    assert second.retake(claim)
    assert not first.retake(claim)


def test_nobody_takes_back_what_somebody_else_answered(store):
    ada, bob = make_desk(store), make_desk(store, labeller="bob")
    (claim,) = ada.take(1)
    ada.answer(claim, "left", seconds=1)
    bob.correct(claim, "right", seconds=1)
    assert not ada.retake(claim)
    assert [label.labeller for label in store.labels()] == ["bob"]


def test_a_probe_goes_to_whom_it_probes(store):
    ada = make_desk(store)
    for claim in ada.take(11):
        ada.answer(claim, "left", seconds=1)
    probing = make_desk(store, probes=1.0)
    probe, *_ = probing.take(1)
    probing.leave()
    others = {claim.query.id for claim in make_desk(store, labeller="bob").take(30)}
    assert len(others) == 19
    assert probe.query.id not in others
    assert probe.query.id in {claim.query.id for claim in make_desk(store).take(30)}


def test_a_correction_keeps_both_versions(store):
    desk = make_desk(store)
    claim = Claim(store.pending()[0], True)
    desk.answer(claim, "left", seconds=1)
    desk.correct(claim, "equal", seconds=1)
    assert [label.answer for label in store.labels()] == ["equal"]
    answers = [row[0] for row in store.db.execute("SELECT answer FROM answers ORDER BY id")]
    assert answers == ["right", "equal"]


def answer_all(desk, store, answer):
    probes = []
    while taken := desk.take(1):
        (claim,) = taken
        if claim.query.repeats is not None:
            probes.append(claim)
        desk.answer(claim, answer(claim), seconds=1)
    return probes


def better(store):
    def judge(claim):
        left, right = (store.clip(clip).true_rewards.sum() for clip in claim.shown)
        return "left" if left > right else "right"

    return judge


def test_probes_repeat_an_earlier_pair_with_sides_swapped(store):
    desk = make_desk(store, probes=0.3)
    asked = store.count_asked()
    probes = answer_all(desk, store, better(store))
    assert len(probes) > 3
    first = {label.query.id: label for label in store.labels()}
    order = [row[0] for row in store.db.execute("SELECT query FROM answers ORDER BY id")]
    for probe in probes:
        original = first[probe.query.repeats]
        assert probe.swapped != original.swapped
        assert order.index(probe.query.id) - order.index(original.query.id) > PROBE_GAP
    assert len({probe.query.repeats for probe in probes}) == len(probes), "each is probed once"
    assert store.count_asked() == asked == 30, "probes cost no budget"
    assert store.count_answered() == 30
    assert consistency(store) == (len(probes), len(probes))


def test_consistency_of_one_who_always_prefers_the_left(store):
    probes = answer_all(make_desk(store, probes=0.3), store, lambda claim: "left")
    assert consistency(store) == (0, len(probes))


def test_a_correction_later_makes_nobody_more_consistent(store):
    probes = answer_all(make_desk(store, probes=0.3), store, lambda claim: "left")
    for claim in probes:
        again = next(la.answer for la in store.labels(probes=True) if la.query == claim.query)
        store.answer(claim.query.repeats, again, labeller="reviewer", seconds=1)
    assert consistency(store) == (0, len(probes))


@pytest.mark.parametrize("word", ["withdrawn", "skip"])
def test_a_probe_of_what_no_longer_stands_says_nothing_of_consistency(store, word):
    desk = make_desk(store, probes=0.3)
    for claim in desk.take(11):
        desk.answer(claim, "left", seconds=1)
    probe, *_ = make_desk(store, probes=1.0).take(1)
    store.answer(probe.query.repeats, word, labeller="ada", seconds=1)
    store.answer(probe.query.id, "left", labeller="ada", seconds=1)
    assert consistency(store) == (0, 0)


def test_share_of_probes(tmp_path):
    store = LabelStore(tmp_path / "many.db")
    for i in range(400):
        store.ask(point_mass_clip(2 * i), point_mass_clip(2 * i + 1), step=1, rule="random")
    probes = answer_all(make_desk(store, probes=0.1), store, lambda claim: "left")
    assert 25 < len(probes) < 60
    store.close()


def test_a_probe_that_nobody_answered_comes_again_the_other_way_round(store):
    desk = make_desk(store)
    for claim in desk.take(11):
        desk.answer(claim, "left", seconds=1)
    probing = make_desk(store, probes=1.0)
    probe, *_ = probing.take(1)
    assert probe.query.repeats is not None
    probing.leave()
    again = next(c for c in make_desk(store, seed=5).take(30) if c.query.id == probe.query.id)
    assert again.swapped == probe.swapped


def test_pairs_that_the_policy_has_outgrown_are_not_taken(store):
    store.withdraw_outgrown(9600, until=960 * 2)
    assert {claim.query.step for claim in make_desk(store).take(30)} == {
        960 * i for i in range(3, 9)
    }


def test_outgrown_pairs_leave_a_window_but_for_the_one_on_its_screen(store):
    desk = make_desk(store)
    *_, old = desk.take(4)
    desk.show(old)
    store.withdraw_outgrown(9600, until=960 * 8)
    assert desk.held() == {old.query.id}
    assert store.count_asked() == 1, "it is not replaced: its answer will count"
    assert desk.answer(old, "left", seconds=1)
    assert make_desk(store, seed=5).take(4) == []
    assert store.count_asked() == 1


def test_a_resumed_run_takes_back_what_it_took_back_before(store):
    """By then, nobody looks at the pair that somebody looked at."""
    desk = make_desk(store)
    *_, old = desk.take(4)
    desk.show(old)
    store.withdraw_outgrown(9600, until=960 * 8)
    desk.leave()
    store.withdraw_outgrown(9600, until=960 * 8)
    assert store.count_asked() == 1
    store.withdraw_outgrown(10_560, until=960 * 8)
    assert store.count_asked() == 0


def test_what_was_on_the_screen_of_a_window_that_died_is_outgrown(store, monkeypatch):
    desk = make_desk(store)
    old, *_ = desk.take(4)
    desk.show(old)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + CLAIM_SECONDS + 1)
    store.withdraw_outgrown(9600, until=960 * 8)
    assert store.count_asked() == 0
    assert desk.held() == set()


def test_a_pair_that_was_taken_back_stays_with_whoever_took_it_back(store):
    """Neither is it outgrown, nor does an idle window get it, though it is still to be drawn."""
    desk = make_desk(store)
    given = desk.take(30)
    for claim in given:
        desk.answer(claim, "left", seconds=1)
    for claim in reversed(given[-3:]):
        assert desk.retake(claim)
    store.withdraw_outgrown(9600, until=960 * 8)
    assert desk.held() == {claim.query.id for claim in given[-3:]}
    assert store.count_asked() == 30
    assert make_desk(store, labeller="bob").take(4) == []
    for claim in given[-3:]:
        assert desk.answer(claim, "right", seconds=1)
    assert store.count_answered() == 30


def test_no_more_is_taken_than_asked_for(store):
    answer_all(make_desk(store), store, lambda claim: "left")
    for i in range(20):
        store.ask(point_mass_clip(100 + i), point_mass_clip(200 + i), step=9600, rule="random")
    for seed in range(20):
        desk = make_desk(store, probes=0.5, seed=seed)
        assert len(desk.take(4)) == 4
        desk.leave()
