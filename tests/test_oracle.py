from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compare import SMALL

import prefrl
from prefrl.configfile import PRESETS
from prefrl.errors import RunFailed, UserError
from prefrl.labellers.oracle import Oracle, checked_scores, load_score
from prefrl.labellers.teachers import Teacher
from prefrl.labels.store import LabelStore
from prefrl.reward.data import bootstrap_weights


@pytest.fixture
def answers(tmp_path, make_clip):
    """Asks about pairs of clips with those values at step 1, and gives an oracle's answers."""
    store = LabelStore(tmp_path / "asked.db")

    def ask(oracle, *pairs):
        for left, right in pairs:
            store.ask(make_clip(left), make_clip(right, seed=1), step=1, rule="random")
        oracle(store, 1)
        return [label.answer for label in store.labels()]

    yield ask
    store.close()


def test_prefers_the_higher_true_return(answers):
    assert answers(Oracle(), (2.0, 1.0), (1.0, 2.0), (3.0, 3.0)) == ["left", "right", "equal"]


def test_own_score_replaces_the_true_return(answers):
    assert answers(Oracle(lambda clip: -clip.true_rewards), (2.0, 1.0)) == ["right"]


def test_thresholds_follow_the_latest_clips(make_clip, tmp_path):
    """Clips of 5 steps; the mean over the latest 100 grows from 8 to 800."""
    store = LabelStore(tmp_path / "labels.db")
    oracle = Oracle(teacher=Teacher(equal=0.5))
    store.ask(make_clip(1.0), make_clip(2.2), step=1, rule="random")
    oracle(store, 1)
    for i in range(49):
        store.ask(make_clip(160.0, seed=i), make_clip(161.0, seed=i), step=2, rule="random")
    store.ask(make_clip(10.0), make_clip(30.0), step=2, rule="random")
    oracle(store, 2)
    # 6 apart is more than half of (5 + 11) / 2; 100 apart is less than half of 788.
    assert [label.answer for label in store.labels()][::50] == ["right", "equal"]
    again = Oracle(teacher=Teacher(equal=0.5))  # after a resume: one that has seen nothing yet
    store.ask(make_clip(10.0, seed=7), make_clip(30.0, seed=7), step=3, rule="random")
    again(store, 3)
    assert store.labels()[-1].answer == "equal"
    for i in range(50):  # 100 clips of little, and all before is forgotten
        store.ask(make_clip(1.0, seed=i), make_clip(2.0, seed=i), step=4, rule="random")
    store.ask(make_clip(10.0, seed=8), make_clip(30.0, seed=8), step=4, rule="random")
    again(store, 4)
    assert store.labels()[-1].answer == "right"
    store.close()


def test_thresholds_do_not_look_ahead(make_clip, tmp_path):
    """A resumed run finds queries in its store that it has yet to come by again."""
    store = LabelStore(tmp_path / "labels.db")
    query = store.ask(make_clip(1.0), make_clip(2.2), step=1, rule="random")
    store.ask(make_clip(900.0), make_clip(901.0), step=2, rule="random")
    Oracle(teacher=Teacher(equal=0.5))(store, 1)
    assert [(label.query.id, label.answer) for label in store.labels()] == [(query, "right")]
    store.close()


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
    with pytest.raises(UserError, match=r"all 2 pairs .* own reward tells no clips .* --oracle"):
        Oracle()(store, 1)
    assert [label.answer for label in store.labels()] == ["equal", "equal"], "they are kept"
    with pytest.raises(UserError, match="all 2 pairs"):
        Oracle()(store, 1)  # as when the run is resumed
    ask(3.0, 4.0)
    oracle = Oracle()
    oracle(store, 1)
    ask(5.0, 5.0)
    oracle(store, 1)  # ties among others may be
    assert [label.answer for label in store.labels()] == ["equal", "equal", "right", "equal"]
    store.close()


def test_clips_that_are_alike_to_a_teacher_do_not_end_it(answers):
    """Only a score that tells no clips apart does."""
    lenient = Oracle(teacher=Teacher(equal=0.5))
    assert answers(lenient, (10.0, 10.1), (10.2, 10.3)) == ["equal", "equal"]


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


def test_score_must_be_finite_and_one_a_step(answers):
    with pytest.raises(RunFailed, match=r"shape \(5,\)"):
        answers(Oracle(lambda clip: 1.0), (1.0, 2.0))
    with pytest.raises(RunFailed, match="not finite"):
        answers(Oracle(lambda clip: clip.true_rewards * np.nan), (3.0, 4.0))


def test_what_of_the_environments_is_not_finite_is_named(make_clip):
    clip = make_clip(1.0)
    broken = replace(clip, infos={"speed": clip.infos["speed"] * np.nan, "height": np.ones(5)})
    message = r"nan; nor is the environment's clip.infos\['speed'\]$"
    with pytest.raises(RunFailed, match=message):
        checked_scores(lambda clip: clip.infos["speed"], broken)
    with pytest.raises(RunFailed, match=r"not finite: nan$"):
        checked_scores(lambda clip: clip.true_rewards * np.nan, clip)


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
        (
            "def score(clip): return clip.true_rewards[:5]",
            "oracle.py:score",
            r"must have shape \(10",
        ),
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


@pytest.mark.parametrize(("teacher", "kind"), [("skip=1000", "skip"), ("equal=1000", "equal")])
def test_labels_that_teach_nothing_are_named(teacher, kind):
    text = (PRESETS / "prefrl-PointMass-v0.yaml").read_text()
    Path("strict.yaml").write_text(f"{text}reward: {{learn_equal: false}}\n")
    Path("high.py").write_text("def score(clip): return 10 + clip.observations[:, 0]\n")
    options = SMALL | {"preset": "strict.yaml", "oracle": "high.py:score", "teacher": teacher}
    with pytest.raises(RunFailed, match=f"^nothing was learned: all 12 labels are {kind}$"):
        prefrl.train("prefrl/PointMass-v0", out="run", **options)


def test_too_few_labels_that_teach_are_told_from_none():
    text = "import numpy as np\ndef score(clip): return np.exp(3 * clip.infos['x_velocity'])\n"
    Path("steep.py").write_text(text)
    options = {"oracle": "steep.py:score", "teacher": "skip=1.35", "quiet": True, "steps": 5760}
    words = r"^nothing was learned: \d\d of 24 labels are skip, and the others too few to begin, "
    with pytest.raises(RunFailed, match=words + "which takes 6$"):
        prefrl.train("prefrl/PointMass-v0", labels=24, out="run", **options)


@pytest.mark.parametrize(("shift", "told"), [(-20.0, 1), (20.0, 0)])
def test_shares_of_a_mean_below_zero_are_said_to_be_none(answers, caplog, shift, told):
    def score(clip):
        return clip.true_rewards + shift

    oracle = Oracle(score, Teacher(skip=0.1, equal=0.1))
    for first in (1.0, 5.0):
        answers(oracle, (first, first + 1), (first + 2, first + 3))
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == told
    assert all(s.startswith("recent clips' mean return is -") for s in said)


def test_errors_are_drawn_apart_from_what_a_label_weighs(make_clip, tmp_path):
    """By the same seed, as in a script whose oracle and loop have the default one."""
    oracle = Oracle(teacher=Teacher(mistake=0.5))
    wrong = []
    with LabelStore(tmp_path / "labels.db") as store:
        for i in range(400):
            store.ask(make_clip(1.0, seed=2 * i), make_clip(0.0, seed=2 * i + 1), step=1, rule="r")
        oracle(store, 1)
        wrong = np.array([label.answer == "right" for label in store.labels()])
        ids = [label.query.id for label in store.labels()]
    weights = np.stack([bootstrap_weights(0, query, 3) for query in ids])
    apart = weights[wrong].mean(axis=0) - weights[~wrong].mean(axis=0)
    assert np.abs(apart).max() < 0.35, "3.5 standard errors"


def test_labels_taken_over_are_not_its_first_batch(make_clip, tmp_path):
    with LabelStore(tmp_path / "source.db") as source, LabelStore(tmp_path / "own.db") as store:
        query = source.ask(make_clip(1.0), make_clip(1.0, seed=1), step=1, rule="random")
        source.answer(query, "left", labeller="ada", seconds=1.0)
        store.take_over(source)
        oracle = Oracle()
        oracle(store, 960)  # where no batch is due yet
        store.ask(make_clip(2.0), make_clip(2.0, seed=1), step=1920, rule="random")
        with pytest.raises(UserError, match="all 1 pairs of the first batch are ties"):
            oracle(store, 1920)
