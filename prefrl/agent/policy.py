"""A trained policy together with the scale of the observations it was trained on."""

from pathlib import Path

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.running_mean_std import RunningMeanStd

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

    def predict(self, observations: np.ndarray, deterministic: bool = True) -> np.ndarray:
        """Actions `(n, *action_shape)` for raw `observations (n, obs_dim)`, or one for one.

        One discrete action is a NumPy integer, as `action_space.sample()` gives.
        """
        scaled = (observations - self._scale.mean) / np.sqrt(self._scale.var + EPSILON)
        bounded = np.clip(scaled, -BOUND, BOUND).astype(np.float32)
        return self.model.predict(bounded, deterministic=deterministic)[0][()]
