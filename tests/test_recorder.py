from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.clips.recorder import (
    ClipRecorder,
    _info_rows,
    clip_starts,
    count_clips,
    encode_actions,
)


class Counter(gym.Env):
    """Observation: (episode, step in it). The reward is 100 * episode + step. Ends after `end`."""

    def __init__(self, end: int) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.end, self.episode, self.step_in_it = end, -1, 0

    def _observe(self):
        return np.array([self.episode, self.step_in_it], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.step_in_it = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action):
        reward = 100.0 * self.episode + self.step_in_it
        self.step_in_it += 1
        info = {"steps": self.step_in_it, "name": "text"}
        return self._observe(), reward, False, self.step_in_it == self.end, info


def record(end: int, length: int, rollouts: int, copies: int = 2) -> ClipRecorder:
    venv = DummyVecEnv([lambda: Counter(end)] * copies)
    recorder = ClipRecorder(venv, length=length, rollout_steps=20, capacity=500)
    recorder.reset()
    for step in range(20 * rollouts):
        recorder.step(np.full(copies, step % 3))
    return recorder


@pytest.mark.parametrize("end", [7, 13, 20, 33])
def test_clips_are_consecutive_steps_of_one_episode(end):
    recorder = record(end, length=4, rollouts=6)
    assert len(recorder.buffer) > 20
    for clip in map(recorder.buffer.__getitem__, range(len(recorder.buffer))):
        episodes, steps = clip.observations.T
        assert len(set(episodes)) == 1, "a clip spans a reset"
        assert np.diff(steps).tolist() == [1, 1, 1]
        np.testing.assert_array_equal(clip.true_rewards, 100 * episodes + steps)
        np.testing.assert_array_equal(clip.infos["steps"], steps + 1)
        assert clip.infos.keys() == {"steps"}
        assert (clip.actions.sum(axis=1) == 1).all(), "a discrete action is one-hot"
    assert len(recorder.buffer) == 2 * count_clips(6, 20, length=4, episode=end)


def test_filmed_clips_are_not_overwritten_by_those_of_other_copies():
    venv = DummyVecEnv([lambda: Counter(20)] * 4)
    camera = partial(np.zeros, (4, 4, 3), np.uint8)
    recorder = ClipRecorder(venv, length=4, rollout_steps=20, capacity=10, camera=camera)
    recorder.reset()
    for _ in range(40):
        recorder.step(np.zeros(4, int))
    assert len(recorder.buffer.fresh()) == 5


def test_no_clip_spans_a_reset_from_outside():
    recorder = record(100, length=4, rollouts=1)
    for _ in range(10):
        recorder.step(np.zeros(2, int))
    recorder.reset()
    for _ in range(20):
        recorder.step(np.zeros(2, int))
    assert len(recorder.buffer) == 2 * 2 * 5
    for clip in map(recorder.buffer.__getitem__, range(len(recorder.buffer))):
        assert len(set(clip.observations[:, 0])) == 1


def test_clips_are_copies():
    recorder = record(33, length=4, rollouts=1)
    before = recorder.buffer[0]
    kept = recorder.buffer.arrays["observations"][0].copy()
    for _ in range(15):
        recorder.step(np.zeros(2, int))
    np.testing.assert_array_equal(recorder.buffer.arrays["observations"][0], kept)
    recorder.buffer.arrays["observations"][0] = -1
    np.testing.assert_array_equal(before.observations, kept)


def test_recent_inputs_are_the_latest_steps():
    recorder = record(20, length=4, rollouts=3)
    recent = recorder.recent_inputs(10)
    assert recent.shape == (10, 5)
    np.testing.assert_array_equal(
        recent[-4:, :2], recorder.buffer[len(recorder.buffer) - 1].observations
    )


@given(
    dones=st.lists(st.booleans(), min_size=1, max_size=40),
    length=st.integers(1, 10),
    seed=st.integers(0, 9),
)
def test_clip_starts_fit_between_resets(dones, length, seed):
    dones = np.array(dones)
    starts = list(clip_starts(dones, length, np.random.default_rng(seed)))
    for start in starts:
        assert 0 <= start <= len(dones) - length
        assert not dones[start : start + length - 1].any()
    assert (np.diff(starts) >= length).all(), "clips overlap"
    stretches = np.diff([0, *(np.flatnonzero(dones) + 1), len(dones)])
    assert len(starts) == sum(s // length for s in stretches), "room for a clip was left"


@pytest.mark.parametrize("odd", ["7", np.array([0.5]), [1, 2], None, {"a": 1}])
def test_what_is_no_number_in_an_info_is_a_hole(odd):
    infos = [{"speed": 0.5, "name": 1}, {"speed": odd, "name": True}]
    rows = _info_rows(infos, ("name", "speed"))
    np.testing.assert_array_equal(rows, [[1, 0.5], [1, np.nan]])
    np.testing.assert_array_equal(_info_rows([{"speed": odd}] * 2, ("speed",)), [[np.nan]] * 2)


def test_actions_encoded():
    assert encode_actions(spaces.Discrete(3, start=-1), np.array([[-1], [1]])).tolist() == [
        [1, 0, 0],
        [0, 0, 1],
    ]
    box = spaces.Box(-1, 1, (2, 1))
    assert encode_actions(box, np.ones((4, 2, 1))).shape == (4, 2)
