import numpy as np
import pytest
from compare import preferences
from hypothesis import given
from hypothesis import strategies as st

from prefrl.clips.clip import ClipBuffer
from prefrl.errors import UserError
from prefrl.queries.rules import RULES, Rule, Share, disagreement
from prefrl.queries.sampler import _spread, candidate_pairs, ensemble_sums, select_pairs
from prefrl.queries.schedule import LabelSchedule
from prefrl.reward.ensemble import RewardEnsemble


def filled_buffer(n: int, seed: int = 0) -> ClipBuffer:
    rng = np.random.default_rng(seed)
    buffer = ClipBuffer(n, length=6, obs_dim=3, act_dim=1, state_dim=0)
    for i in range(n):
        buffer.add(
            observations=rng.normal(size=(6, 3)),
            actions=rng.normal(size=(6, 1)),
            true_rewards=rng.normal(size=6),
            states=np.zeros((6, 0)),
            infos=np.zeros((6, 0)),
            steps=i,
        )
    return buffer


def fitted_ensemble(squares: bool = False) -> RewardEnsemble:
    ensemble = RewardEnsemble(3, 1, members=4, squares=squares, seed=1)
    ensemble.normalise_outputs(np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    return ensemble


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "ensemble", [RewardEnsemble(3, 1), fitted_ensemble(), fitted_ensemble(squares=True)]
)
def test_selected_pairs_are_fresh_and_share_no_clip(rule, ensemble):
    buffer = filled_buffer(30)
    used = [3, 7, 11]
    for index in used:
        buffer.take(index)
    pairs = select_pairs(buffer, ensemble, RULES[rule], 8, rng=np.random.default_rng(0))
    assert pairs.shape == (8, 2)
    assert len(np.unique(pairs)) == 16
    assert not np.isin(pairs, used).any()


@pytest.mark.parametrize("rule", RULES)
def test_few_clips_give_few_pairs(rule):
    pairs = select_pairs(
        filled_buffer(7), fitted_ensemble(), RULES[rule], 10, rng=np.random.default_rng(0)
    )
    assert pairs.shape == (3, 2)
    none = select_pairs(
        filled_buffer(1), fitted_ensemble(), RULES[rule], 10, rng=np.random.default_rng(0)
    )
    assert none.shape == (0, 2)


def test_disagreement_takes_the_most_disputed_candidates():
    buffer, ensemble = filled_buffer(40), fitted_ensemble()
    rng = np.random.default_rng(0)
    pairs = select_pairs(buffer, ensemble, RULES["disagreement"], 3, candidates=20, rng=rng)
    candidates = candidate_pairs(buffer.fresh(), 60, np.random.default_rng(0))

    def variance(some):
        members = preferences(ensemble, buffer.inputs(some[:, 0]), buffer.inputs(some[:, 1]))
        return members.var(axis=0)

    assert variance(pairs[:1])[0] == pytest.approx(variance(candidates).max(), rel=1e-4)
    assert variance(pairs).mean() > np.quantile(variance(candidates), 0.9)


def test_a_diverse_share_passes_over_copies_of_the_most_disputed_pair():
    buffer, ensemble = filled_buffer(120), fitted_ensemble()
    pairs = candidate_pairs(np.arange(120), 2000, np.random.default_rng(0))
    members = preferences(ensemble, buffer.inputs(pairs[:, 0]), buffer.inputs(pairs[:, 1]))
    left, right = pairs[members.var(axis=0).argmax()]
    noise = np.random.default_rng(1).normal(size=(24, 6, 3)) * 1e-3
    observations = buffer.arrays["observations"]
    observations[:12] = observations[left] + noise[:12]
    observations[12:24] = observations[right] + noise[12:]
    buffer.arrays["actions"][:12] = buffer.arrays["actions"][left]
    buffer.arrays["actions"][12:24] = buffer.arrays["actions"][right]

    def copies(diverse):
        rule = Rule((Share(score=disagreement, shortlist=4 if diverse else 0),))
        rng = np.random.default_rng(2)
        chosen = select_pairs(buffer, ensemble, rule, 8, candidates=100, rng=rng)
        return int((np.minimum(chosen // 12, 2).sum(axis=1) == 1).sum())

    assert copies(diverse=False) >= 5
    assert copies(diverse=True) <= 2


def test_hybrid_is_half_disputed():
    buffer, ensemble = filled_buffer(200), fitted_ensemble()
    means = {}
    for rule in RULES:
        pairs = select_pairs(buffer, ensemble, RULES[rule], 20, rng=np.random.default_rng(1))
        members = preferences(ensemble, buffer.inputs(pairs[:, 0]), buffer.inputs(pairs[:, 1]))
        means[rule] = members.var(axis=0).mean()
    assert means["random"] < means["hybrid"] < means["disagreement"]


def test_near_policy_takes_the_newest_clips():
    buffer, ensemble = filled_buffer(100), fitted_ensemble()
    buffer.arrays["steps"][:] = np.random.default_rng(0).permutation(100)  # the ring has wrapped
    pairs = select_pairs(buffer, ensemble, RULES["near-policy"], 3, rng=np.random.default_rng(0))
    assert buffer.arrays["steps"][pairs].min() >= 80
    # With 8 pairs wanted, the newest fifth would leave little choice: four clips for each.
    pairs = select_pairs(buffer, ensemble, RULES["near-policy"], 8, rng=np.random.default_rng(0))
    assert 68 <= buffer.arrays["steps"][pairs].min() < 80


def test_the_diverse_rule_spreads_and_looks_at_no_belief():
    buffer, ensemble = filled_buffer(120), fitted_ensemble()
    buffer.arrays["observations"][:100] = buffer.arrays["observations"][0]
    buffer.arrays["actions"][:100] = buffer.arrays["actions"][0]
    found = {
        rule: select_pairs(buffer, ensemble, RULES[rule], 8, rng=np.random.default_rng(0))
        for rule in ("diverse", "random")
    }
    # 20 of 120 clips are not copies of one another.
    distinct = {rule: int((pairs >= 100).sum()) for rule, pairs in found.items()}
    assert distinct["diverse"] >= 8 > distinct["random"]


def test_an_own_score_fills_the_batch_from_the_top():
    buffer, ensemble = filled_buffer(60), fitted_ensemble()
    rule = Rule((Share(score=lambda p: -p.mean(axis=0)),))  # where left is surely worse
    pairs = select_pairs(buffer, ensemble, rule, 4, candidates=20, rng=np.random.default_rng(0))
    candidates = candidate_pairs(buffer.fresh(), 80, np.random.default_rng(0))

    def left(some):
        inputs = buffer.inputs(some[:, 0]), buffer.inputs(some[:, 1])
        return preferences(ensemble, *inputs).mean(axis=0)

    assert left(pairs).max() < np.quantile(left(candidates), 0.15)


def test_sides_are_random():
    fresh = np.arange(40)
    rng = np.random.default_rng(0)
    pairs = np.concatenate([candidate_pairs(fresh, 20, rng) for _ in range(50)])
    # Of 1,000 pairs: 500 expected, standard deviation 15.8.
    assert 430 < (pairs[:, 0] < pairs[:, 1]).sum() < 570


@given(n_fresh=st.integers(2, 30), n=st.integers(1, 200), seed=st.integers(0, 5))
def test_candidates_are_different_pairs_of_different_clips(n_fresh, n, seed):
    fresh = np.arange(100, 100 + n_fresh)
    pairs = candidate_pairs(fresh, n, np.random.default_rng(seed))
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert np.isin(pairs, fresh).all()
    assert len({frozenset(p) for p in pairs.tolist()}) == len(pairs) <= n
    assert len(np.unique(pairs[: n_fresh // 2])) == 2 * min(len(pairs), n_fresh // 2)


def test_spread_passes_over_near_duplicates():
    # Pairs 0, 1 and 2 are almost the same, 1 with its sides swapped; 3 and 4 stand apart.
    left = np.array([[0.0], [5.0], [0.01], [10.0], [-10.0]])
    right = np.array([[5.0], [0.01], [5.0], [0.0], [0.0]])
    order = _spread(np.arange(5), np.stack([left, right]), 3)
    assert order[:3].tolist() == [0, 4, 3]
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_sums_do_not_depend_on_the_block():
    ensemble = fitted_ensemble()
    inputs = np.random.default_rng(0).normal(size=(150, 6, 4)).astype(np.float32)
    whole = ensemble_sums(ensemble, inputs)
    assert whole.shape == (4, 150)
    np.testing.assert_allclose(ensemble_sums(ensemble, inputs[70:80]), whole[:, 70:80], rtol=1e-5)


@given(
    budget=st.integers(1, 5000),
    until=st.integers(1, 10**6),
    initial=st.floats(0.01, 1.0),
    decay=st.floats(0, 20),
)
def test_schedule_spends_the_budget(budget, until, initial, decay):
    schedule = LabelSchedule(budget, until, initial, decay)
    steps = np.linspace(0, until, 30).astype(int)
    due = [schedule.due(step) for step in steps]
    assert due[0] == schedule.first >= 1
    assert due[-1] == schedule.due(10 * until) == budget
    assert due == sorted(due)


def test_schedule_of_nothing_asks_nothing():
    schedule = LabelSchedule(budget=0, until=100)
    assert [schedule.due(step) for step in (0, 50, 100)] == [0, 0, 0]


def test_schedule_follows_its_formula():
    schedule = LabelSchedule(budget=1000, until=100, initial=0.2, decay=4.0)
    assert schedule.first == 200
    assert schedule.due(50) == 200 + int(800 * np.log(3) / np.log(5))
    rates = np.diff([schedule.due(step) for step in range(0, 101, 10)])
    assert rates[0] > 2 * rates[-1]
    even = LabelSchedule(budget=1000, until=100, initial=0.2, decay=0.0)
    assert [even.due(s) for s in (25, 50, 75)] == [400, 600, 800]


@pytest.mark.parametrize(
    ("name", "value"),
    [("budget", -1), ("until", 0), ("initial", 1.5), ("decay", float("nan"))],
)
def test_a_schedule_that_cannot_be_kept_is_refused(name, value):
    with pytest.raises(UserError, match=f"a schedule's {name} must be from .*, got {value}"):
        LabelSchedule(**{"budget": 10, "until": 100} | {name: value})
