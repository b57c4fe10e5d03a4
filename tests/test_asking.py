"""What the loop asks of people, and in which order it learns from their answers."""

import numpy as np
import pytest
from compare import point_mass_clip
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

import prefrl
from envs.point_mass import PointMassEnv
from prefrl.errors import RunFailed, UserError
from prefrl.labellers.oracle import Oracle
from prefrl.labellers.person import Person
from prefrl.labels.store import LabelStore
from prefrl.loop import REFIT_GROWTH
from prefrl.reward.data import LabelledClips


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


def test_a_review_of_an_oracles_answers_is_dated_when_it_is_given(tmp_path):
    """Else a resumed run would learn from it before the run that was not stopped did."""
    schedule = prefrl.LabelSchedule(budget=12, until=2000)
    agent, loop, store = make_loop(
        tmp_path / "labels.db", queue=None, schedule=schedule, labeller=Oracle()
    )
    store.note(step=0)  # as a run does when it begins
    agent.learn(1440, callback=loop)
    first = store.labels()[0]
    assert first.step < 1440
    store.answer(first.query.id, "skip", labeller="ada", seconds=1)
    assert store.labels()[0].step == 1441
    store.close()


def make_loop(path, *, queue, schedule, batch=4, labeller=None):
    venv = DummyVecEnv([PointMassEnv] * 4)
    recorder = prefrl.ClipRecorder(venv, length=15, rollout_steps=120, rng=np.random.default_rng(0))
    ensemble = prefrl.RewardEnsemble(*recorder.dims)
    store = LabelStore(path)
    loop = prefrl.PreferenceLoop(
        recorder,
        ensemble,
        store,
        labeller or Person(schedule),
        schedule,
        queue=queue,
        batch=batch,
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
    person = Person(schedule, horizon=900)
    agent, loop, store = make_loop(
        tmp_path / "labels.db", queue=6, schedule=schedule, labeller=person
    )
    ask = loop.ask

    def watch(pairs, step):
        ask(pairs, step)
        for query in store.pending()[:1]:
            store.answer(query.id, "left", labeller="ada", seconds=1)

    loop.ask = watch
    agent.learn(8000, callback=loop)
    assert store.db.execute("SELECT count(*) FROM outgrown").fetchone()[0] > 5
    assert store.count_asked() == 12
    assert store.count_answered() == 12
    store.close()


def test_the_last_answers_are_learned_from_however_few_they_are(tmp_path):
    """A refit waits for 2 % more labels, which a last batch of one in 101 is not."""
    schedule = prefrl.LabelSchedule(budget=101, until=6000, initial=0.5)
    agent, loop, store = make_loop(tmp_path / "labels.db", queue=60, schedule=schedule, batch=30)
    ask, learned = loop.ask, []

    def answer(pairs, step):
        ask(pairs, step)
        left = 100 - store.count_answered()  # none left: the last one, in a rollout of its own
        for query in store.pending()[: left or None]:
            store.answer(query.id, "left", labeller="ada", seconds=1, step=step)

    def fit(data, steps, fit=loop._fitter.fit):
        learned.append(len(data))
        return fit(data, steps)

    loop.ask, loop._fitter.fit = answer, fit
    agent.learn(9600, callback=loop)
    assert store.count_answered() == 101
    assert learned[-2:] == [100, 101]
    store.close()


def test_labels_taken_over_are_none_of_the_budget(tmp_path):
    """With as many of them as are to be asked, a refit still waits for 2 % more."""
    schedule = prefrl.LabelSchedule(budget=100, until=20_000, initial=0.1)
    agent, loop, store = make_loop(tmp_path / "labels.db", queue=None, schedule=schedule, batch=1)
    with store.transaction():
        for i in range(0, 300, 2):
            pair = point_mass_clip(i), point_mass_clip(i + 1)
            query = store.ask(*pair, step=0, rule="random")
            store.answer(query, "left", labeller="ada", seconds=1, step=0)
    learned = []

    def fit(data, steps, fit=loop._fitter.fit):
        learned.append(len(data))
        return fit(data, steps)

    loop._labeller = Oracle()
    loop._fitter.fit = fit
    agent.learn(9600, callback=loop)
    assert len(learned) > 5
    assert (np.diff(learned) >= REFIT_GROWTH * np.array(learned[:-1])).all()
    store.close()


def test_an_answer_from_before_a_kill_is_learned_from_when_it_was(tmp_path):
    """It has a lower id and a later step than what was answered since the run went on."""
    schedule = prefrl.LabelSchedule(budget=12, until=2400, initial=0.5)
    agent, loop, store = make_loop(tmp_path / "labels.db", queue=12, schedule=schedule)
    ask, seen = loop.ask, {}

    def answer(pairs, step):
        ask(pairs, step)
        if step == 960:
            first, second, *_ = store.pending()
            store.answer(first.id, "left", labeller="ada", seconds=1, step=1900)
            store.answer(second.id, "left", labeller="ada", seconds=1, step=step)

    def update(step, update=loop._data.update):
        new = update(step)
        seen[step] = len(loop._data)
        return new

    loop.ask, loop._data.update = answer, update
    agent.learn(2400, callback=loop)
    assert seen == {960: 1, 1920: 2}
    store.close()


def test_corrections_are_learned_from_also_after_the_last_label(tmp_path):
    schedule = prefrl.LabelSchedule(budget=12, until=1440, initial=0.5)
    agent, loop, store = make_loop(tmp_path / "labels.db", queue=12, schedule=schedule)
    ask, learned = loop.ask, []

    def answer(pairs, step):
        ask(pairs, step)
        if step <= 1440:
            for query in store.pending():
                store.answer(query.id, "left", labeller="ada", seconds=1, step=step)
        elif word := {2400: "equal", 2880: "withdrawn"}.get(step):
            store.answer(store.labels()[0].query.id, word, labeller="ada", seconds=1, step=step)

    def fit(data, steps, fit=loop._fitter.fit):
        learned.append((loop.num_timesteps, float(data.preferences[data.standing].sum())))
        return fit(data, steps)

    loop.ask, loop._fitter.fit = answer, fit
    agent.learn(2400, callback=loop)
    assert learned[-2:] == [(1440, 12.0), (2400, 11.5)]
    assert loop.metrics["label/equal"] == 1 / 12
    agent.learn(960, callback=loop, reset_num_timesteps=False)
    assert learned[-1] == (2880, 11.0)
    assert loop.metrics["label/equal"] == 0, "of the answers that stand"
    store.close()


def test_corrections_are_no_labels_that_a_first_fit_waits_for(tmp_path):
    schedule = prefrl.LabelSchedule(budget=40, until=4000, initial=0.5)
    agent, loop, store = make_loop(tmp_path / "labels.db", queue=6, schedule=schedule)

    def change(pairs, step, ask=loop.ask):
        ask(pairs, step)
        word = "left" if step % 960 else "right"
        for query in store.latest_queries(480, 6):
            store.answer(query.id, word, labeller="ada", seconds=1, step=step)

    loop.ask = change
    agent.learn(1920, callback=loop)
    assert len(store.labels()) == 6 < schedule.enough
    assert not loop.ensemble.fitted
    store.close()


def test_no_batch_is_waited_for_that_the_clips_have_no_room_for(tmp_path):
    preset = "agent: {n_steps: 120, batch_size: 240}\nclips: {length: 15, capacity: 2}\n"
    (tmp_path / "tight.yaml").write_text(preset + "query: {batch: 3}\nlabels: {until: 0.9}\n")
    tight = {"preset": "tight.yaml", "labels": 3, "steps": 3840, "quiet": True}
    run = prefrl.train("prefrl/PointMass-v0", **tight)
    assert run.record["result"]["labels_answered"] == 3


def test_steps_that_begin_again_are_refused(tmp_path):
    schedule = prefrl.LabelSchedule(budget=40, until=5000)
    agent, loop, store = make_loop(tmp_path / "labels.db", queue=6, schedule=schedule)
    agent.learn(480, callback=loop)
    with pytest.raises(UserError, match=r"reset_num_timesteps=False"):
        agent.learn(480, callback=loop)
    store.close()


def test_what_another_run_has_asked_is_not_gone_on_with(tmp_path):
    """A script that is started twice on one store; a second `learn()` of one run may go on."""
    schedule = prefrl.LabelSchedule(budget=40, until=5000)
    for started in range(2):
        agent, loop, store = make_loop(tmp_path / "labels.db", queue=6, schedule=schedule)
        if started:
            with pytest.raises(UserError, match=r"holds 6 queries that another run has asked"):
                agent.learn(480, callback=loop)
        else:
            agent.learn(480, callback=loop)
            agent.learn(480, callback=loop, reset_num_timesteps=False)
        store.close()


def test_a_reward_that_is_no_number_ends_the_run(tmp_path):
    schedule = prefrl.LabelSchedule(budget=40, until=5000)
    agent, loop, store = make_loop(tmp_path / "labels.db", queue=6, schedule=schedule)
    loop.recorder.recent_inputs = lambda n: np.full((n, sum(loop.recorder.dims)), np.nan, "f")

    def answer(pairs, step, ask=loop.ask):
        ask(pairs, step)
        for query in store.pending():
            store.answer(query.id, "left", labeller="ada", seconds=1)

    loop.ask = answer
    with pytest.raises(RunFailed, match="learned reward is no longer a number"):
        agent.learn(4000, callback=loop)
    store.close()
