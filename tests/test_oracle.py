import numpy as np
import pytest

from prefrl.errors import RunFailed, UserError
from prefrl.labellers.oracle import Oracle, Teacher, load_score, teacher
from prefrl.labels.store import LabelStore


def compare(oracle, left, right, seed=0):
    return oracle.compare(left, right, np.random.default_rng(seed))


def test_prefers_the_higher_true_return(make_clip):
    oracle = Oracle()
    assert compare(oracle, make_clip(2.0), make_clip(1.0)) == "left"
    assert compare(oracle, make_clip(1.0), make_clip(2.0)) == "right"
    assert compare(oracle, make_clip(1.0), make_clip(1.0, seed=1)) == "equal"


def test_own_score_replaces_the_true_return(make_clip):
    oracle = Oracle(lambda clip: -clip.true_rewards)
    assert compare(oracle, make_clip(2.0), make_clip(1.0)) == "right"


def test_mistakes_come_at_their_rate(make_clip):
    oracle = Oracle(teacher=Teacher(mistake=0.1))
    left, right = make_clip(2.0), make_clip(1.0)
    wrong = sum(compare(oracle, left, right, seed) == "right" for seed in range(2000))
    # 200 expected, standard deviation 13.4.
    assert 150 < wrong < 250


def test_mistakes_belong_to_the_query(make_clip, tmp_path):
    """A resumed run, which meets only some of the queries again, sees the same mistakes."""

    def answers(name, first):
        store = LabelStore(tmp_path / name)
        oracle = Oracle(teacher=Teacher(mistake=0.5), seed=3)
        for i in range(40):
            query = store.ask(make_clip(float(i)), make_clip(i + 0.5), step=1, rule="random")
            if i == first:
                oracle(store, 1)
        oracle(store, 1)
        given = {label.query.id: label.answer for label in store.labels()}
        store.close()
        assert query in given
        return given

    assert answers("a.db", 5) == answers("b.db", 30)


def test_ties_alone_in_the_first_batch_end_it(make_clip, tmp_path):
    store = LabelStore(tmp_path / "labels.db")

    def ask(first, second):
        store.ask(make_clip(first), make_clip(second, seed=1), step=1, rule="random")

    ask(1.0, 1.0)
    ask(2.0, 2.0)
    with pytest.raises(UserError, match=r"all 2 pairs .* 'true_reward' tells no clips apart"):
        Oracle()(store, 1)
    assert [label.answer for label in store.labels()] == ["equal", "equal"], "they are kept"
    Oracle()(store, 1)  # nothing is pending
    ask(3.0, 3.0)
    Oracle()(store, 1)  # ties after the first batch may be
    store.close()


def test_one_decided_pair_is_enough_to_go_on(make_clip, tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    for value in (1.0, 2.0, 3.0):
        right = make_clip(max(value, 2.0), seed=1)
        store.ask(make_clip(value), right, step=1, rule="random")
    Oracle()(store, 1)
    assert [label.answer for label in store.labels()] == ["right", "equal", "equal"]
    store.close()


def test_answers_only_what_was_asked_by_now(make_clip, tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    now = store.ask(make_clip(1.0), make_clip(2.0), step=10, rule="random")
    store.ask(make_clip(3.0), make_clip(4.0), step=20, rule="random")
    Oracle()(store, 10)
    assert [label.query.id for label in store.labels()] == [now]
    store.close()


def test_score_must_be_finite_and_one_a_step(make_clip):
    with pytest.raises(RunFailed, match=r"shape \(5,\)"):
        compare(Oracle(lambda clip: 1.0), make_clip(), make_clip())
    with pytest.raises(RunFailed, match="not finite"):
        compare(Oracle(lambda clip: clip.true_rewards * np.nan), make_clip(), make_clip())


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        (None, "missing.py:score", "does not exist"),
        ("", "oracle.py", "must be FILE.py:FUNC"),
        ("def score(clip", "oracle.py:score", "fails to import: SyntaxError"),
        ("import nowhere_at_all", "oracle.py:score", "fails to import: ModuleNotFoundError"),
        ("def score(clip): pass", "oracle.py:scor", "did you mean 'score'"),
        ("x = 1", "oracle.py:score", "defines no function"),
        ("def score(clip): return 1.0", "oracle.py:score", "must have shape"),
        ("def score(clip): return clip.true_rewards / 0 * 0", "oracle.py:score", "not finite"),
        ("def score(clip): return clip.infos['nope']", "oracle.py:score", "KeyError: 'nope'"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:divide by zero")
def test_bad_oracle_files(tmp_path, make_clip, text, spec, message):
    if text is not None:
        (tmp_path / "oracle.py").write_text(text)
    with pytest.raises(UserError, match=message):
        load_score(spec, make_clip())


def test_good_oracle_file(tmp_path, make_clip):
    (tmp_path / "oracle.py").write_text("def fast(clip):\n    return clip.infos['speed']\n")
    clip = make_clip()
    np.testing.assert_array_equal(load_score("oracle.py:fast", clip)(clip), clip.infos["speed"])


def test_unknown_teacher():
    with pytest.raises(UserError, match="did you mean 'mistake'"):
        teacher("mistakes")
