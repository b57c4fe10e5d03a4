"""A trained policy together with the scale of the observations it was trained on."""

from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv

from prefrl.errors import UserError, one_line

EPSILON, BOUND = 1e-8, 10.0
"""As in SB3's VecNormalize."""


class Policy:
    """Acts on raw observations.

    Args:
        model: SB3's PPO, which acts on normalised observations.
        scale: Running mean and variance of the observations.
    """

    def __init__(self, model: PPO, scale: RunningMeanStd) -> None:
        self.model = model
        self._scale = scale

    @classmethod
    def load(cls, checkpoint: Path) -> "Policy":
        """The policy of a checkpoint."""
        scale = RunningMeanStd()
        with np.load(checkpoint / "arrays.npz", allow_pickle=False) as arrays:
            scale.mean = arrays["normalise/obs_mean"]
            scale.var = arrays["normalise/obs_var"]
        return cls(PPO.load(checkpoint / "policy.zip", device="cpu"), scale)

    def check_env(self, env: gym.Env, env_id: str) -> None:
        """Refuse an environment that is no longer what the policy was trained in.

        Raises:
            UserError: Its spaces are others.
        """
        check_spaces_kept(self.model.observation_space, self.model.action_space, env, env_id)

    def predict(self, observations: np.ndarray, deterministic: bool = True) -> np.ndarray:
        """Actions `(n, *action_shape)` for raw `observations (n, obs_dim)`, or one for one.

        One discrete action is a NumPy integer, as `action_space.sample()` gives.
        """
        scaled = (observations - self._scale.mean) / np.sqrt(self._scale.var + EPSILON)
        bounded = np.clip(scaled, -BOUND, BOUND).astype(np.float32)
        return self.model.predict(bounded, deterministic=deterministic)[0][()]


def check_spaces_kept(
    observations: spaces.Space, actions: spaces.Space, env: gym.Env | VecEnv, env_id: str
) -> None:
    """Whether observations are of the shape, and actions the same, that a policy was trained with.

    Raises:
        UserError: Names the space that is not.
    """
    for name, then, now, same_limits in (
        ("observations", observations, env.observation_space, True),  # whatever they are
        ("actions", actions, env.action_space, _limits(actions) == _limits(env.action_space)),
    ):
        if then.shape != now.shape or not same_limits:
            raise UserError(
                f"{env_id} has {name} {one_line(now)}, but the run was trained with "
                f"{one_line(then)}: undo what was changed, or train anew"
            )


def _limits(space: spaces.Space) -> list:
    """What can be chosen from, in numbers."""
    if isinstance(space, spaces.Box):
        return [space.low.tolist(), space.high.tolist()]
    return [space.n] if isinstance(space, spaces.Discrete) else [space]
