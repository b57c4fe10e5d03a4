"""The window on SDL's dummy display: real events, real store, frames from memory."""

import contextlib
import sqlite3
from unittest import mock

import pygame
import pytest
from seat import Desktop

from prefrl.labellers.session import Labelling
from prefrl.labellers.window import DEBOUNCE, FEEDBACK
from prefrl.labels.answers import turned

ANSWER_KEYS = {
    "left": pygame.K_LEFT,
    "right": pygame.K_RIGHT,
    "equal": pygame.K_DOWN,
    "skip": pygame.K_UP,
}


def test_each_key_stores_the_answer_that_it_shows(sit):
    desktop = sit()
    given = []
    for answer in ("left", "right", "equal", "skip") * 3:
        given.append((desktop.player.claims[0], answer))
        desktop.press(ANSWER_KEYS[answer])
    labels = desktop.labels()
    assert len(labels) == 12
    assert {claim.swapped for claim, _ in given} == {False, True}
    for claim, answer in given:
        label = labels[claim.query.id]
        assert (label.answer, label.swapped) == (turned(answer, claim.swapped), claim.swapped)
        assert 0.15 < label.seconds < 1


def test_a_key_in_the_first_moments_of_a_pair_does_not_count(sit):
    desktop = sit()
    desktop.press(pygame.K_LEFT, wait=DEBOUNCE - 0.05)
    assert len(desktop.labels()) == 1
    desktop.press(pygame.K_LEFT, wait=0.1)
    assert len(desktop.labels()) == 1
    desktop.press(pygame.K_LEFT)
    assert len(desktop.labels()) == 2


def test_keys_that_come_at_once_never_answer_a_pair_that_is_not_on_the_screen(sit):
    desktop = sit()
    first, second = desktop.player.claims[:2]
    desktop.press(pygame.K_LEFT)
    for key in (pygame.K_BACKSPACE, pygame.K_RIGHT, pygame.K_RIGHT):
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
    desktop.tick()
    assert desktop.labels() == {}
    desktop.tick(DEBOUNCE + 0.1)
    desktop.press(pygame.K_DOWN)
    assert {query: label.answer for query, label in desktop.labels().items()} == {
        first.query.id: "equal"
    }
    assert desktop.player.claims[0] == second


def test_an_answer_that_is_taken_back_at_once_leaves_the_pair_open(sit):
    desktop = sit()
    claim = desktop.player.claims[0]
    for key in (pygame.K_RIGHT, pygame.K_BACKSPACE):
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
    desktop.tick()
    desktop.tick(DEBOUNCE + 0.1)
    assert desktop.labels() == {}
    assert desktop.window._scene(0).mark is None
    desktop.press(pygame.K_DOWN)
    assert desktop.labels()[claim.query.id].answer == "equal"


@pytest.mark.parametrize("held", [pygame.KMOD_LCTRL, pygame.KMOD_LALT, pygame.KMOD_LGUI])
def test_shortcuts_of_the_desktop_are_no_answers(sit, held):
    desktop = sit()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_RIGHT, mod=held))
    desktop.tick(1.0)
    assert desktop.labels() == {}


def test_unknown_keys_do_nothing(sit):
    desktop = sit()
    before = desktop.player.claims[0]
    for key in (pygame.K_a, pygame.K_0, pygame.K_RETURN, pygame.K_TAB, pygame.K_PAGEUP, 0):
        desktop.press(key)
    assert desktop.labels() == {}
    assert desktop.window.open
    assert desktop.player.claims[0] == before


def test_any_number_of_answers_can_be_taken_back(sit):
    desktop = sit()
    pairs = list(desktop.player.claims)
    for _ in range(5):
        desktop.press(pygame.K_LEFT)
    for key in (pygame.K_BACKSPACE, pygame.K_u, pygame.K_BACKSPACE):
        desktop.press(key)
    assert set(desktop.labels()) == {claim.query.id for claim in pairs[:2]}
    assert desktop.player.claims == pairs[2:], "the pairs come again, in their order"
    for _ in range(4):
        desktop.press(pygame.K_BACKSPACE)
    assert desktop.labels() == {}
    assert desktop.window._banner == "There is nothing to take back."
    desktop.press(pygame.K_RIGHT)
    assert desktop.labels()[pairs[0].query.id].answer == turned("right", pairs[0].swapped)


def test_answers_from_before_the_window_can_be_taken_back(sit, asked_run):
    desktop = sit()
    pairs = list(desktop.player.claims)
    desktop.press(pygame.K_LEFT)
    desktop.press(pygame.K_LEFT)
    later = Labelling(desktop.run, desktop.player, "ada")
    assert later.back() is None
    assert set(desktop.labels()) == {pairs[0].query.id}
    later.close()
    stranger = Labelling(desktop.run, desktop.player, "bob")
    assert stranger.back() == "There is nothing to take back."
    stranger.close()


@pytest.mark.parametrize(
    "event",
    [
        pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE),
        pygame.event.Event(pygame.QUIT),
        pygame.event.Event(pygame.WINDOWCLOSE),
    ],
)
def test_closing_is_not_an_answer(sit, event):
    desktop = sit()
    pygame.event.post(event)
    desktop.tick()
    assert not desktop.window.open
    assert desktop.labels() == {}


def test_while_the_help_is_up_keys_only_close_it(sit):
    desktop = sit()
    for key in (pygame.K_LEFT, pygame.K_ESCAPE, pygame.K_h):
        desktop.press(pygame.K_h)
        assert desktop.window._help
        desktop.press(key)
        assert not desktop.window._help
    assert desktop.labels() == {}
    assert desktop.window.open


@pytest.mark.parametrize("answer", ANSWER_KEYS)
def test_buttons_take_clicks(sit, answer):
    desktop = sit()
    claim = desktop.player.claims[0]
    desktop.click(answer)
    assert desktop.labels()[claim.query.id].answer == turned(answer, claim.swapped)
    desktop.click("back")
    assert desktop.labels() == {}
    desktop.click("pause")
    assert desktop.window._playback.stopped


def test_a_click_on_a_clip_prefers_it(sit):
    desktop = sit()
    claim = desktop.player.claims[0]
    place = [p for p, name in desktop.window._screen.places if name == "right"][-1]
    assert place.height > 100, "the clip, not the button"
    event = pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=place.center)
    pygame.event.post(event)
    desktop.tick(FEEDBACK + 0.01)
    assert desktop.labels()[claim.query.id].answer == turned("right", claim.swapped)


def test_an_answer_that_cannot_be_saved_is_not_given(sit):
    desktop = sit()
    claim = desktop.player.claims[0]
    db = desktop.session._store.db
    db.execute("PRAGMA query_only = ON")
    desktop.press(pygame.K_LEFT)
    assert desktop.window._banner.startswith("Not saved: ")
    assert desktop.labels() == {}
    assert desktop.player.claims[0] == claim, "the pair stays"
    db.execute("PRAGMA query_only = OFF")
    desktop.press(pygame.K_LEFT)
    assert desktop.window._banner is None
    assert set(desktop.labels()) == {claim.query.id}


def test_an_answer_given_anew_counts_once(sit):
    desktop = sit()
    for key in (pygame.K_LEFT, pygame.K_u, pygame.K_RIGHT):
        desktop.press(key)
    assert len(desktop.session.seconds) == len(desktop.labels()) == 1


def test_a_full_disk_takes_no_answer_and_pretends_nothing(sit):
    desktop = sit()
    desktop.press(pygame.K_LEFT)
    db = desktop.session._store.db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    other = desktop.player.claims[-1].query.id
    filler = (
        "INSERT INTO answers (query, answer, labeller, seconds, swapped, step, answered) "
        f"VALUES ({other}, 'withdrawn', 1, 0, 0, 0, 0)"
    )
    with contextlib.suppress(sqlite3.OperationalError):
        while True:
            db.execute(filler)
    desktop.press(pygame.K_LEFT)
    assert "Not saved: database or disk is full" in desktop.window._banner
    assert len(desktop.labels()) == 1
    desktop.press(pygame.K_u)
    assert "Not taken back: database or disk is full" in desktop.window._banner
    assert len(desktop.labels()) == 1
    db.execute(f"PRAGMA max_page_count = {pages + 100}")
    desktop.press(pygame.K_LEFT)
    assert desktop.window._banner is None
    assert len(desktop.labels()) == 2


def test_a_pair_that_somebody_else_answered_is_passed_over(sit):
    desktop = sit()
    claim = desktop.player.claims[0]
    desktop.player.store.answer(claim.query.id, "equal", labeller="bob", seconds=1)
    desktop.press(pygame.K_LEFT)
    assert desktop.labels()[claim.query.id].answer == "equal"
    assert "another window" in desktop.window._banner
    assert desktop.player.claims[0] != claim


def test_no_answer_while_the_pair_is_not_drawn(sit):
    desktop = sit()
    desktop.player.missing = {claim.query.id for claim in desktop.player.claims[1:]}
    desktop.press(pygame.K_LEFT)
    assert len(desktop.labels()) == 1
    desktop.press(pygame.K_LEFT)
    assert len(desktop.labels()) == 1
    assert desktop.window.speed.next_pair == []
    desktop.player.missing.clear()
    desktop.tick(1.0)
    assert desktop.window.speed.next_pair[-1] > 0.2, "waiting for a drawing counts as latency"
    desktop.press(pygame.K_LEFT)
    assert len(desktop.labels()) == 2


def test_a_pair_that_cannot_be_drawn_can_be_put_aside(sit):
    desktop = sit()
    claim = desktop.player.claims[1]
    desktop.player.missing = {claim.query.id}
    desktop.player.faults = {claim.query.id: "no states"}
    desktop.press(pygame.K_LEFT)
    desktop.press(pygame.K_LEFT)
    assert len(desktop.labels()) == 1
    desktop.press(pygame.K_UP)
    assert desktop.labels()[claim.query.id].answer == "skip"


def test_an_answer_about_a_pair_that_cannot_be_drawn_any_more_stands_in_a_review(sit):
    desktop = sit()
    desktop.press(pygame.K_LEFT)
    ((query, label),) = desktop.labels().items()
    review = Desktop(desktop.run, review=True)
    review.player.missing = {query}
    review.player.faults = {query: "no states"}
    review.tick(1.0)
    assert review.window._scene(0).banner.endswith("no states. N goes on.")
    review.press(pygame.K_UP)
    assert review.labels()[query].answer == label.answer
    review.close()


def test_full_screen_is_left_whatever_the_size_of_the_screen(sit):
    """As on a second screen, whose size is not the first's."""
    desktop = sit()
    window = desktop.window._window
    desktop.window._window = screens = mock.MagicMock(wraps=window)
    screens.set_fullscreen = mock.Mock()
    screens.set_windowed = mock.Mock()
    for _ in range(3):
        desktop.press(pygame.K_f)
    assert (screens.set_fullscreen.call_count, screens.set_windowed.call_count) == (2, 1)


def test_the_answer_is_marked_before_it_is_stored_and_stored_before_the_next_pair(sit):
    desktop = sit()
    claim, following = desktop.player.claims[:2]
    seen = []
    take = desktop.session.answer

    def answer(claimed, shown, seconds):
        scene = desktop.window._scene(0)
        seen.append(("mark", scene.mark, desktop.window._shown == claimed == claim))
        refused = take(claimed, shown, seconds)
        seen.append(("stored", claim.query.id in desktop.labels()))
        return refused

    desktop.session.answer = answer
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_LEFT))
    desktop.window.tick()
    assert seen == [("mark", "left", True), ("stored", True)]
    assert desktop.window._shown == claim, "marked for a moment"
    desktop.tick(FEEDBACK + 0.01)
    assert desktop.window._shown == following


def test_pairs_on_the_screen_are_noted_in_the_store(sit):
    desktop = sit()
    shown = "SELECT query FROM claims WHERE shown IS NOT NULL ORDER BY shown DESC"
    first = desktop.player.claims[0].query.id
    assert desktop.player.store.db.execute(shown).fetchone() == (first,)
    desktop.press(pygame.K_LEFT)
    second = desktop.player.claims[0].query.id
    assert desktop.player.store.db.execute(shown).fetchall() == [(second,)]


def test_review_marks_answers_and_corrects_them(sit, asked_run):
    desktop = sit()
    for key in (pygame.K_LEFT, pygame.K_DOWN, pygame.K_UP):
        desktop.press(key)
    before = desktop.labels()
    review = Desktop(desktop.run, review=True)
    marks = []
    for _ in range(3):
        marks.append((review.session.current.query.id, review.session.mark))
        review.press(pygame.K_RETURN)
    assert {q: turned(m, before[q].swapped) for q, m in marks} == {
        q: label.answer for q, label in before.items()
    }
    review.press(pygame.K_PAGEUP)
    query = review.session.current.query.id
    review.press(pygame.K_RIGHT)
    assert review.session.mark == "right"
    assert review.labels()[query].answer == turned("right", before[query].swapped)
    assert review.session.current.query.id == query, "it stays, to be seen"
    kept = review.player.store.db.execute(
        "SELECT count(*) FROM answers WHERE query = ?", (query,)
    ).fetchone()[0]
    assert kept == 2
    review.close()


def test_review_of_nothing(sit):
    desktop = sit(review=True)
    desktop.press(pygame.K_LEFT)
    desktop.press(pygame.K_RETURN)
    assert desktop.labels() == {}
    assert "no pair" in desktop.window._status()


def test_review_goes_by_the_answer_that_stands_now(sit):
    """Another review may have corrected it in the meantime."""
    desktop = sit()
    for key in (pygame.K_LEFT, pygame.K_LEFT):
        desktop.press(key)
    reviews = [Desktop(desktop.run, review=True) for _ in range(2)]
    first, second = reviews
    query = second.session.current.query.id
    first.press(pygame.K_RIGHT)
    second.press(pygame.K_LEFT)
    swapped = second.labels()[query].swapped
    assert second.labels()[query].answer == turned("left", swapped), (
        "as the one who looked last says"
    )
    first.press(pygame.K_RETURN)
    first.press(pygame.K_PAGEUP)
    assert first.session.mark == "left"
    for review in reviews:
        review.close()
