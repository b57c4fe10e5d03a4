import itertools
import math
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from compare import point_mass_clip, until

import prefrl.labellers.person as person_module
from prefrl.errors import Interrupted
from prefrl.labellers.person import QUEUE, QUIET_SECONDS, Person
from prefrl.labels.store import LabelStore
from prefrl.queries.schedule import LabelSchedule

SCHEDULE = LabelSchedule(budget=40, until=20_000, initial=0.25)


@pytest.fixture
def store(tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    store.note(step=0)  # as a trainer does before anything is asked
    yield store
    store.close()


def ask(store, n, step):
    start = store.db.execute("SELECT count(*) FROM queries").fetchone()[0]
    pairs = [(point_mass_clip(2 * i), point_mass_clip(2 * i + 1)) for i in range(start, start + n)]
    store.ask_all(pairs, step=step, rule="random")


def answer(store, n):
    for query in store.pending()[:n]:
        store.answer(query.id, "left", labeller="ada", seconds=1)


def it_waits():
    pytest.fail("it waits")


def test_training_goes_on_without_anybody(store):
    person = Person(SCHEDULE, stopped=it_waits)
    assert person.queue == QUEUE
    ask(store, 10, step=1000)
    person(store, 1000)
    facts = store.facts()
    # The 11th label, the first of 30 after the initial 10: log(1 + x / 2) / log(1.5) = 1 / 30.
    next_step = math.ceil(20_000 * 2 * (1.5 ** (1 / 30) - 1))
    assert (facts["step"], facts["state"]) == ("1000", "training")
    assert int(facts["next_step"]) == next_step


def test_waits_until_all_but_the_slack_is_given(store):
    person = Person(SCHEDULE, wait=True, slack=3)
    ask(store, 15, step=1000)
    waits = threading.Thread(
        target=lambda: other_thread_calls(person, store.path, 1000), daemon=True
    )
    waits.start()
    until(lambda: store.facts().get("state") == "waiting")
    answer(store, 11)
    time.sleep(0.4)
    assert waits.is_alive(), "four are missing, three may be"
    answer(store, 1)
    waits.join(timeout=30)
    assert not waits.is_alive()
    assert store.facts()["state"] == "training"
    given = store.labels(1000)
    assert len(given) == 12, "what it waited for can be read at once"
    answer(store, 1)
    assert len(store.labels(1000)) == len(given), "what comes later cannot, even after a resume"


def other_thread_calls(person, path, step):
    store = LabelStore(path)
    person(store, step)
    store.close()


def test_waits_for_the_first_labels_whatever_the_slack(store):
    """A budget within the slack would else be trained away without a label."""
    ask(store, SCHEDULE.first, step=1000)
    start = time.monotonic()
    person = Person(SCHEDULE, wait=True, slack=50, stopped=lambda: time.monotonic() > start + 0.5)
    with pytest.raises(Interrupted):
        person(store, 1000)
    answer(store, SCHEDULE.enough)
    Person(SCHEDULE, wait=True, slack=50, stopped=it_waits)(store, 2000)


def test_waits_for_the_last_answers_of_the_budget(store):
    """No slack is left to them: what comes after the last step is never learned from."""
    ask(store, SCHEDULE.budget, step=1000)
    answer(store, SCHEDULE.budget - 1)
    end = time.monotonic() + 0.5
    with pytest.raises(Interrupted):
        Person(SCHEDULE, wait=True, slack=3, stopped=lambda: time.monotonic() > end)(store, 1000)
    answer(store, 1)
    Person(SCHEDULE, wait=True, slack=3, stopped=it_waits)(store, 2000)


def test_does_not_wait_again_where_it_has_gone_on_before(store):
    """Answers that came later say that it did; maybe there is no pair left to answer."""
    ask(store, SCHEDULE.first, step=1000)
    store.note(step=1000)
    answer(store, SCHEDULE.first)
    Person(SCHEDULE, wait=True, slack=3, step=500, stopped=it_waits)(store, 1000)
    assert not store.labels(1000)


def test_does_not_wait_before_the_first_batch_could_be_asked(store):
    ask(store, SCHEDULE.first - 1, step=1000)
    Person(SCHEDULE, wait=True, slack=3, stopped=it_waits)(store, 1000)


def test_waits_although_the_next_batch_is_not_whole_yet(store):
    """Labels fall due one by one and are asked in batches: asked lags behind due."""
    ask(store, SCHEDULE.first, step=1000)
    step = 1 + SCHEDULE.step_of(SCHEDULE.first + 2)
    person = Person(SCHEDULE, wait=True, slack=3, stopped=lambda: time.monotonic() > end)
    end = time.monotonic() + 0.5
    with pytest.raises(Interrupted):
        person(store, step)


def test_waiting_ends_when_the_run_is_to_stop(store):
    ask(store, SCHEDULE.due(1000), step=1000)
    end = time.monotonic() + 0.5
    person = Person(SCHEDULE, wait=True, slack=3, stopped=lambda: time.monotonic() > end)
    with pytest.raises(Interrupted, match=r"step 1000, where training waits .* `prefrl resume"):
        person(store, 1000)
    assert time.monotonic() >= end
    assert store.facts()["step"] == "0", "what is answered now is read where it waited"


def test_what_the_policy_has_outgrown_is_withdrawn_once_it_learns(store):
    person = Person(SCHEDULE, horizon=5000)
    ask(store, 4, step=1000)
    person(store, 8000)
    assert len(store.pending()) == 4, "nobody has answered: the policy is still untrained"
    answer(store, 1)
    person(store, 9000)
    assert len(store.pending()) == 0
    ask(store, 4, step=9000)
    person(store, 14_000)
    assert [query.step for query in store.pending()] == []


def test_the_longer_nobody_answers_the_more_slowly_pairs_are_replaced(store):
    person = Person(SCHEDULE, horizon=1000)
    replaced_at = []
    ask(store, 2, step=1000)
    person(store, 1000)
    answer(store, 1)
    for step in range(2000, 64_000, 1000):
        pending = store.count_pending()
        person(store, step)
        if store.count_pending() < pending:
            replaced_at.append(step)
            ask(store, 1, step=step)
    gaps = np.diff(replaced_at)
    assert 4 <= len(replaced_at) <= 8, "instead of sixty times"
    assert all(b >= a for a, b in itertools.pairwise(gaps))


def test_says_once_that_nobody_answers(store, monkeypatch):
    now = 1000.0
    clock = SimpleNamespace(monotonic=lambda: now, time=time.time)
    monkeypatch.setattr(person_module, "time", clock)
    said: list[str] = []
    person = Person(SCHEDULE, say=said.append)
    ask(store, 4, step=1000)
    person(store, 1000)
    assert said == []
    now += QUIET_SECONDS + 1
    person(store, 2000)
    person(store, 3000)
    assert len(said) == 1
    assert "prefrl label" in said[0]


def test_passes_news_of_the_window_on(store):
    said: list[str] = []
    news = ["the window is closed"]
    person = Person(SCHEDULE, say=said.append, news=lambda: news.pop() if news else None)
    person(store, 1000)
    person(store, 2000)
    assert said == ["the window is closed"]


def test_speed_of_a_resumed_run_is_that_since_the_resume(store):
    person = Person(SCHEDULE, step=100_000)
    time.sleep(0.1)
    person(store, 101_000)
    assert float(store.facts()["steps_per_second"]) < 10_000


def test_step_of_is_the_inverse_of_due():
    for n in range(1, SCHEDULE.budget + 1):
        step = SCHEDULE.step_of(n)
        assert SCHEDULE.due(step) >= n
        assert step == 0 or SCHEDULE.due(step - 1) < n
