"""What query rules have to be, whatever the members believe."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from prefrl.errors import RunFailed, UserError
from prefrl.queries.rules import (
    RULES,
    checked_score,
    disagreement,
    entropy,
    find_rule,
    mutual_information,
)
from prefrl.queries.sampler import predict

SCORES = (disagreement, entropy, mutual_information)
EPISTEMIC = (disagreement, mutual_information)
"""Scores of what the members do not know, not of how alike the clips are."""

probabilities = arrays.arrays(
    np.float64, st.tuples(st.integers(2, 6), st.integers(1, 8)), elements=st.floats(0, 1)
)


def column(*members):
    return np.array(members)[:, None]


def test_scores_are_those_of_a_sheet_of_paper():
    split = column(0.9, 0.1)
    assert disagreement(split) == pytest.approx(0.16)
    assert entropy(split) == pytest.approx(math.log(2))
    single = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert mutual_information(split) == pytest.approx(math.log(2) - single)
    assert mutual_information(column(1.0, 0.0)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("score", SCORES)
@given(p=probabilities)
def test_an_agreed_pair_never_scores_above_a_split_one(score, p):
    """Against members that together believe the same, and against members that are sure."""
    agreed = np.broadcast_to(p.mean(axis=0), p.shape)
    assert (score(agreed) <= score(p) + 1e-12).all()
    sure = np.broadcast_to(np.round(p[0]), p.shape)
    assert (score(sure) <= score(p) + 1e-12).all()


@pytest.mark.parametrize("score", EPISTEMIC)
@given(p=st.floats(0, 1))
def test_what_all_members_agree_on_teaches_nothing(score, p):
    assert score(np.full((3, 1), p)) == pytest.approx(0, abs=1e-12)


def test_equals_are_open_but_teach_nothing():
    equals, split = column(0.5, 0.5), column(0.95, 0.05)
    assert entropy(equals) == pytest.approx(entropy(split))
    assert mutual_information(equals) < mutual_information(split)


@pytest.mark.parametrize("score", SCORES)
@given(p=probabilities)
def test_scores_are_the_same_from_both_sides_and_finite(score, p):
    assert score(p).shape == p.shape[1:]
    assert np.isfinite(score(p)).all()
    assert (score(p) >= 0).all()
    np.testing.assert_allclose(score(p), score(1 - p), atol=1e-12)


@pytest.mark.parametrize("score", SCORES)
@given(
    sums=arrays.arrays(np.float64, (3, 6), elements=st.floats(-5, 5)),
    shift=arrays.arrays(np.float64, 3, elements=st.floats(-100, 100)),
)
def test_a_constant_added_to_a_members_reward_changes_no_score(score, sums, shift):
    left, right = np.array([0, 1, 2]), np.array([3, 4, 5])
    plain, shifted = (predict(s, left, right) for s in (sums, sums + shift[:, None]))
    np.testing.assert_allclose(score(plain), score(shifted), atol=1e-9)


def test_left_is_what_members_prefer_that_give_it_the_higher_sum():
    sums = np.array([[2.0, 0.0], [0.0, math.log(3)]])
    p = predict(sums, np.array([0]), np.array([1]))
    np.testing.assert_allclose(p[:, 0], [1 / (1 + math.exp(-2)), 0.25])


def test_an_own_rule_comes_from_a_file(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("def score(p):\n    return p.max(axis=0) - p.min(axis=0)\n")
    (share,) = find_rule(f"{file}:score", members=3).shares
    assert share.score(column(0.25, 0.75)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return p", r"the query rule 'score' .* \(3, 20\) into scores \(20,\), .* got \(3, 20\)"),
        ("return p.mean()", r"one for each pair, got \(\); nothing was asked"),
        ("return p.mean(axis=0) * float('nan')", "gives NaN for 20 of 20 pairs; nothing was asked"),
        ("import numpy as np; return np.where(p == 0, np.nan, p)[0]", "gives NaN for 1 of 20"),
        ("return p.nonsense", "the query rule 'score' fails: AttributeError"),
        ("raise SystemExit('enough')", "the query rule 'score' fails: SystemExit: enough"),
        (
            "raise ValueError('two\\nlines')",
            r"two lines \(own.py, line 2\); nothing was asked",
        ),
    ],
)
def test_an_own_rule_that_cannot_work_is_named_before_anything_is_asked(tmp_path, body, message):
    file = tmp_path / "own.py"
    file.write_text(f"def score(p):\n    {body}\n")
    with pytest.raises(UserError, match=message):
        find_rule(f"{file}:score", members=3)


def test_unknown_rules_are_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="unknown query rule 'mutual': did you mean 'mutual-inf"):
        find_rule("mutual", members=3)
    with pytest.raises(UserError, match=r"query rule 'own.py' must be FILE.py:FUNC"):
        find_rule("own.py", members=3)
    with pytest.raises(UserError, match=r"query rule file '.*no.py' does not exist"):
        find_rule(f"{tmp_path}/no.py:score", members=3)
    assert set(RULES) >= {"random", "hybrid", "disagreement", "entropy", "mutual-information"}


def test_an_own_rule_cannot_change_what_the_members_believe():
    def score(p):
        p[:] = 0
        return p[0]

    p = column(0.3, 0.7)
    checked_score(score, p)
    assert p[0, 0] == 0.3


def test_an_own_rule_that_fails_later_says_so():
    with pytest.raises(RunFailed, match="gives NaN for 1 of 2 pairs"):
        checked_score(lambda p: np.array([0.0, np.nan]), np.zeros((3, 2)))
