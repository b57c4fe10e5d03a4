"""What is made of episodes, by hand-made ones; the commands are tested in test_cli.py."""

import numpy as np
import pytest

from envs.point_mass import PointMassEnv
from prefrl.config import Config, LabelConfig, RunConfig
from prefrl.evaluation import Episode, best_episode, deciding_return, roll_out, summarise


@pytest.fixture
def make_episode(make_clip):
    def make(seed, info=None, **returns):
        """An episode of 4 steps, the sums of whose rewards are `returns`."""
        rewards = {f"{name}_return": np.full(4, total / 4) for name, total in returns.items()}
        clip = make_clip(length=4)
        return Episode(seed, 0.4, clip.actions, clip, info or {}, rewards)

    return make


def test_spreads_and_the_best_episode(make_episode):
    episodes = [
        make_episode(7, {"turns": 1.0, "height": 3.0}, true=4.0, oracle=-1.0),
        make_episode(8, {"turns": 2.0, "height": 1.0}, true=8.0, oracle=-5.0),
        make_episode(9, {"turns": 0.0, "height": 2.0}, true=6.0, oracle=-3.0),
    ]
    summary, correlation = summarise(episodes)
    assert summary["episodes"] == 3
    std = np.sqrt(8 / 3)
    assert summary["true_return"] == pytest.approx({"mean": 6.0, "std": std, "best": 8.0})
    assert summary["oracle_return"]["best"] == -5.0
    assert summary["info"]["turns"] == pytest.approx({"mean": 1.0, "std": std / 2, "best": 2.0})
    assert summary["info"]["height"]["best"] == 1.0
    assert summary["best_episode"] == {"seed": 8, "by": "true_return"}
    assert "learned_return" not in summary
    assert np.isnan(correlation)
    summary, _ = summarise(episodes, "oracle_return")
    assert summary["best_episode"] == {"seed": 7, "by": "oracle_return"}
    assert summary["info"]["height"]["best"] == 3.0


def test_a_measure_that_the_best_episode_lacks_has_no_best(make_episode):
    episodes = [make_episode(1, {"fell_at": 3.0}, true=1.0), make_episode(2, {}, true=2.0)]
    assert summarise(episodes)[0]["info"] == {"fell_at": {"mean": 3.0, "std": 0.0}}


def test_a_return_that_is_no_number_is_never_the_best(make_episode):
    episodes = [make_episode(i, true=total) for i, total in enumerate([np.nan, -3.0, -2.0])]
    assert best_episode(episodes, "true_return").seed == 2


def test_correlation_is_over_pieces(make_episode):
    same, opposite = ([make_episode(i, true=i, learned=k * i) for i in range(5)] for k in (2, -1))
    assert summarise(same)[1] == pytest.approx(1.0)
    assert summarise(opposite)[1] == pytest.approx(-1.0)


def test_a_measure_of_some_episodes_is_told(make_episode):
    episodes = [make_episode(1, {}, true=2.0), make_episode(2, {"solved_at": 3.0}, true=1.0)]
    assert summarise(episodes)[0]["info"] == {"solved_at": {"mean": 3.0, "std": 0.0}}


def test_rests_of_episodes_tell_no_correlation(make_clip):
    """Shorter pieces have less of every reward, however little two rewards have in common."""
    rng = np.random.default_rng(0)

    def episode(seed, steps):
        rewards = {name: rng.normal(1, 0.1, steps) for name in ("learned_return", "true_return")}
        return Episode(seed, 1.0, np.zeros((steps, 1)), make_clip(length=steps), {}, rewards)

    assert abs(summarise([episode(i, 60) for i in range(20)])[1]) < 0.5
    assert summarise([episode(i, 10 + i) for i in range(20)])[1] > 0.9, "short ones are whole"


@pytest.mark.parametrize(
    ("labels", "true_reward", "by"),
    [
        ({}, False, "true_return"),
        ({"oracle": "still.py:score"}, False, "oracle_return"),
        ({"labeller": "human"}, False, "learned_return"),
        ({"labeller": "none", "source": "labels.db"}, False, "learned_return"),
        ({"oracle": "still.py:score"}, True, "true_return"),
        ({"labeller": "human"}, True, "true_return"),
    ],
)
def test_episodes_are_judged_by_what_the_labels_went_by(labels, true_reward, by):
    config = Config(labels=LabelConfig(**labels), run=RunConfig(true_reward=true_reward))
    assert deciding_return(config) == by


def test_clips_of_episodes_hold_the_states(point_mass_run):
    """An oracle may go by them, and is asked about whole episodes, too."""
    for episode in roll_out(point_mass_run, 2):
        states = episode.clip.states
        assert states.shape == (len(episode.clip), 4)
        np.testing.assert_allclose(states, episode.clip.observations, atol=1e-6)


def test_an_episode_can_be_replayed_from_its_seed_and_actions(point_mass_run):
    env = PointMassEnv()
    episodes = roll_out(point_mass_run, 12)
    assert len({episode.seed for episode in episodes}) == 12
    for episode in episodes:
        observation, _ = env.reset(seed=episode.seed)
        for action, seen in zip(episode.actions, episode.clip.observations, strict=True):
            np.testing.assert_array_equal(observation, seen)
            observation, *_ = env.step(action)
        assert episode.seconds == 6.0
