"""The wrapper that replaces the environment's reward by the learned one."""

from collections import deque
from collections.abc import Sequence

import numpy as np
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from prefrl.clips.recorder import ClipRecorder
from prefrl.reward.ensemble import RewardEnsemble


class LearnedReward(VecEnvWrapper):
    """Gives an agent the learned reward; the environment's own goes no further than this.

    Args:
        recorder: The environments, with a recorder on top, which knows the raw observation and
            the action that each reward is for.
        ensemble: Gives the reward; 0 until it is fitted.
        early: Of each environment, whether its episodes are cut short, and not reported.
    """

    def __init__(
        self,
        recorder: ClipRecorder,
        ensemble: RewardEnsemble,
        *,
        early: Sequence[bool] | None = None,
    ) -> None:
        super().__init__(recorder)
        self._whole = ~np.array(early or [False] * recorder.num_envs)
        self._recorder = recorder
        self._ensemble = ensemble
        self.episode_returns: deque[float] = deque(maxlen=20)
        """Learned returns of the latest whole episodes, as the reward was when they ran."""
        self.running_returns = np.zeros(recorder.num_envs)
        """`(num_envs,)` learned return of each present episode so far."""

    def reset(self) -> VecEnvObs:
        self.running_returns[:] = 0
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        observations, _, dones, infos = self.venv.step_wait()
        rewards = self._ensemble.rewards(self._recorder.last_inputs)
        self.running_returns += rewards
        if dones.any():
            self.episode_returns.extend(self.running_returns[dones & self._whole].tolist())
            self.running_returns[dones] = 0
        return observations, rewards, dones, infos
