"""The tape: what one environment does step by step, as a clip.

`ClipRecorder` cuts clips from rollouts of many environments at once; a tape is for trials before a
run and whole episodes after it.
"""

from typing import Any

import gymnasium as gym
import numpy as np

from prefrl.clips.clip import Clip, numbers
from prefrl.clips.recorder import encode_actions
from prefrl.clips.simulator import read_state


class Tape:
    """Steps an environment, and keeps what clips hold.

    Args:
        env: The environment.
    """

    observation: np.ndarray
    """What was observed last, as the environment gave it."""
    info: dict[str, float]
    """Every number in the last step's `info`."""

    def __init__(self, env: gym.Env) -> None:
        self._env = env
        self._rows: list[tuple[np.ndarray, Any, float, np.ndarray, dict[str, float]]] = []

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode."""
        self.observation, _ = self._env.reset(seed=seed)

    def step(self, action: Any) -> tuple[bool, bool]:
        """Take a step; give whether that terminated, and whether it truncated, the episode."""
        before, state = np.array(self.observation, np.float32), read_state(self._env)
        # A copy, which environments may change.
        self.observation, reward, terminated, truncated, info = self._env.step(action.copy())
        self.info = numbers(info)
        self._rows.append((before, action, float(reward), state, self.info))
        return terminated, truncated

    @property
    def actions(self) -> np.ndarray:
        """`(T, *action_shape)`, as the environment took them."""
        return np.stack([action for _, action, *_ in self._rows])

    def clip(self, length: int | None = None) -> Clip:
        """The first `length` steps, or all."""
        observations, actions, rewards, states, infos = zip(*self._rows[:length], strict=True)
        return Clip(
            observations=np.stack(observations),
            actions=encode_actions(self._env.action_space, np.stack(actions)),
            true_rewards=np.array(rewards),
            states=np.stack(states),
            infos={k: np.array([info.get(k, np.nan) for info in infos]) for k in infos[0]},
            step=0,
        )
