"""What a suite's rows come to, by hand."""

import numpy as np
import pytest
from compare import ROWS

from prefrl.bench.results import Row
from prefrl.bench.suites import ALL
from prefrl.bench.summary import summarise


def test_summaries_by_hand():
    found = {(s.task, s.condition): s for s in summarise(ROWS, reference="true", baseline="true")}
    few = found["A-v0", "few"]
    assert (few.runs, few.labels, few.steps) == (2, 6.0, 1000)
    assert few.true_return.value == 85
    assert few.deviation == pytest.approx(np.sqrt(2) * 25)
    margin = 12.7062 * 25  # t of one degree of freedom
    assert few.true_return.low == pytest.approx(85 - margin, rel=1e-4)
    assert few.true_return.high == pytest.approx(85 + margin, rel=1e-4)
    # (60 - 10) / 100 and (110 - 10) / 100.
    assert few.normalised.value == pytest.approx(0.75)
    assert (few.normalised.low, few.normalised.high) == (0.5, 1.0)
    assert few.improvement.value == 0.25  # 110 beats 100, 60 beats none
    whole = found[ALL, "few"]
    assert (whole.tasks, whole.runs) == (2, 3)
    # 0.5, 1.0 on A and twice 0.5 on B, which counts the same: the middle two are 0.5.
    assert whole.normalised.value == pytest.approx(0.5)
    assert np.isnan(whole.true_return.value)
    assert found["A-v0", "true"].normalised.value == pytest.approx(1.0)
    assert np.isnan(found["A-v0", "true"].improvement.value)
    # 60 less 100 and 110 less 120, of a scale of 100; on B -20 of 40.
    assert few.difference.value == pytest.approx(-0.25)
    assert few.difference.low == pytest.approx(-0.25 - 12.7062 * 0.15, rel=1e-4)
    assert whole.difference.value == pytest.approx((-0.25 - 0.5) / 2)
    assert whole.difference.low == pytest.approx((-0.4 - 0.5) / 2)
    assert np.isnan(found["A-v0", "true"].difference.value)


def test_a_task_without_its_reference_is_not_normalised():
    found = summarise(ROWS[:5] + ROWS[7:], reference="true")
    by_key = {(s.task, s.condition): s for s in found}
    assert np.isnan(by_key["B-v0", "few"].normalised.value)
    assert by_key[ALL, "few"].normalised.value == by_key["A-v0", "few"].normalised.value


def test_a_reference_that_is_no_better_than_chance_is_no_scale():
    worse = [Row("A-v0", "true", 2, -300.0, 0.0, steps=1000)]
    found = {(s.task, s.condition): s for s in summarise(ROWS + worse, reference="true")}
    assert np.isnan(found["A-v0", "few"].normalised.value)
    assert found[ALL, "few"].normalised.value == found["B-v0", "few"].normalised.value


def test_a_single_run_has_no_interval():
    single = next(s for s in summarise(ROWS, reference="true") if s.task == "B-v0")
    assert single.true_return.value == -10
    assert np.isnan(single.true_return.low)


def test_only_runs_of_the_same_seed_are_paired():
    rows = [*ROWS, Row("A-v0", "few", 7, 1e6, 0.0, steps=1000)]
    found = {(s.task, s.condition): s for s in summarise(rows, reference="true", baseline="true")}
    assert found["A-v0", "few"].difference.value == pytest.approx(-0.25)
