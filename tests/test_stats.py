"""The statistics of suites, against frozen figures of rliable 1.2.0 and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrl.bench.stats import improvement, interval, iqm, mean, mean_interval, profile

# Five runs of two methods on three tasks, as (runs, tasks), the way rliable takes them.
ONE = np.array(
    [
        [0.9, 0.69, 1.073],
        [0.722, 0.464, 1.001],
        [0.912, 1.002, 1.051],
        [0.776, 0.747, 1.136],
        [0.921, 0.321, 1.097],
    ]
)
OTHER = np.array(
    [
        [0.939, 0.431, 0.808],
        [0.42, 0.442, 0.532],
        [0.753, 0.447, 0.954],
        [0.831, 0.663, 0.397],
        [0.692, 0.69, 0.923],
    ]
)
# rliable's metrics.aggregate_iqm, aggregate_mean, probability_of_improvement and
# library.run_score_deviation; get_interval_estimates with 50,000 and 20,000 repetitions.
RLIABLE_IQM = (0.8924444444, 0.6508888889)
RLIABLE_MEAN = (0.8542, 0.6614666667)
RLIABLE_IMPROVEMENT = (0.7933333333, 0.2066666667)
RLIABLE_PROFILE = ([1.0, 0.8666666667, 0.5333333333, 0.0], [1.0, 0.6, 0.2, 0.0])
RLIABLE_IQM_INTERVAL = ((0.81533333, 0.96277778), (0.52855556, 0.77666667))
RLIABLE_IMPROVEMENT_INTERVAL = (0.61333333, 0.94666667)

BOTH = (list(ONE.T), list(OTHER.T))


def test_agrees_with_rliable():
    assert tuple(iqm(s) for s in BOTH) == pytest.approx(RLIABLE_IQM)
    assert tuple(mean(s) for s in BOTH) == pytest.approx(RLIABLE_MEAN)
    assert improvement(*BOTH) == pytest.approx(RLIABLE_IMPROVEMENT[0])
    assert improvement(*reversed(BOTH)) == pytest.approx(RLIABLE_IMPROVEMENT[1])
    thresholds = np.array([0.2, 0.6, 0.9, 1.2])
    for scores, expected in zip(BOTH, RLIABLE_PROFILE, strict=True):
        np.testing.assert_allclose(profile(scores, thresholds), expected)


def test_interval_of_the_mean_of_few_runs():
    margin = 4.302653 / np.sqrt(3)  # t of two degrees of freedom at 97.5 %, from a printed table
    assert mean_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2 - margin, 2 + margin))
    assert np.isnan(mean_interval(np.array([1.0]))).all()


def test_intervals_agree_with_rliable():
    rng = np.random.default_rng(0)
    for scores, expected in zip(BOTH, RLIABLE_IQM_INTERVAL, strict=True):
        # Ends of bootstraps with other random numbers differ by about 0.002.
        assert interval(iqm, scores, repetitions=20_000, rng=rng) == pytest.approx(
            expected, abs=0.01
        )
    found = interval(improvement, *BOTH, repetitions=20_000, rng=rng)
    assert found == pytest.approx(RLIABLE_IMPROVEMENT_INTERVAL, abs=0.015)


def test_each_task_counts_the_same_however_many_runs_it_has():
    many, few = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), np.array([0.0, 0.0])
    assert mean([many, few]) == 0.5
    # The middle half of 0 0 0 0 0 0 1 1 1 1 1 1.
    assert iqm([many, few]) == 0.5
    assert profile([many, few], np.array([0.5])) == 0.5


def test_the_middle_half_may_take_a_part_of_a_run():
    """Weights 0.1 on 0 to 4 and 0.25 on 10 and 11: half of 2's, all of 3's, 4's and 10's stay."""
    expected = (0.05 * 2 + 0.1 * 3 + 0.1 * 4 + 0.25 * 10) / 0.5
    assert iqm([np.arange(5.0), np.array([10.0, 11.0])]) == pytest.approx(expected)


def test_ties_count_half():
    assert improvement([np.array([1.0, 2.0])], [np.array([1.0])]) == 0.75


def test_runs_are_redrawn_within_their_task():
    """Two tasks on different levels: the spread between tasks is not uncertainty."""
    flat = [np.full(5, 0.0), np.full(3, 1.0)]
    low, high = interval(mean, flat, rng=np.random.default_rng(0))
    assert low == high == 0.5


def test_a_wider_level_has_wider_ends():
    ends = [
        interval(iqm, BOTH[0], level=level, rng=np.random.default_rng(0)) for level in (0.5, 0.95)
    ]
    assert ends[1][0] < ends[0][0] < ends[0][1] < ends[1][1]


def test_intervals_have_the_statistics_shape():
    thresholds = np.linspace(0, 1, 7)
    low, high = interval(
        lambda s: profile(s, thresholds), BOTH[0], repetitions=50, rng=np.random.default_rng(0)
    )
    assert low.shape == high.shape == (7,)
    assert (low <= high).all()


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=12), st.floats(-3, 3))
def test_iqm_moves_with_the_scores_and_ignores_one_outlier(scores, shift):
    task = np.array(scores)
    assert iqm([task + shift]) == pytest.approx(iqm([task]) + shift, abs=1e-9)
    outlier = np.where(np.arange(len(task)) == task.argmax(), 1e6, task)
    assert iqm([outlier]) == pytest.approx(iqm([task]), abs=1e-9)
