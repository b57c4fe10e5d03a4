"""Environments for the agent: checked with random actions, stepped in turn."""

import logging
from dataclasses import replace
from functools import cached_property, partial

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from prefrl.agent.trial import can_be_restored
from prefrl.clips.render import Renderer, checked_frame
from prefrl.clips.simulator import is_mujoco, restore, snapshot
from prefrl.clock import Stopwatch
from prefrl.config import EnvConfig
from prefrl.environment import (
    FRAME_SIZE,
    acting_in,
    checked_observations,
    close_env,
    make_drawable,
    make_env,
)
from prefrl.errors import UserError, sentence

log = logging.getLogger(__name__)


class TimedVecEnv(DummyVecEnv):
    """Environments stepped in turn in this process; their own time counts as `simulate`.

    In this process on purpose: with small environments, passing steps between processes costs
    more than it saves (1,400 against 2,750 steps/s for HalfCheetah on two cores).

    Args:
        config: Which environment, and how many.
        seed: Of the first; each next one takes the next integer. PPO seeds them anew where a run
            starts, so that this is what a resumed one's new episodes are drawn by.
        stopwatch: Where the time is counted.
        drawable: Whether they can draw themselves.
    """

    def __init__(
        self, config: EnvConfig, *, seed: int, stopwatch: Stopwatch, drawable: bool = False
    ) -> None:
        short = replace(config, kwargs=config.kwargs | {"max_episode_steps": config.restart_every})

        def make(config: EnvConfig) -> gym.Env:
            return make_drawable(config, *FRAME_SIZE) if drawable else make_env(config)

        # Those that begin anew early are not monitored: the returns are of whole episodes.
        self._early = restarts_early(config)
        super().__init__(
            [
                partial(make, short) if early else lambda: Monitor(make(config))
                for early in self._early
            ]
        )
        self._config = config
        self._stopwatch = stopwatch
        self.seed(seed)

    def camera(self) -> np.ndarray:
        """The first one's scene now, `(height, width, 3)` uint8."""
        env = self.envs[0]
        with acting_in(self._config.id):
            return self._renderer.frame() if is_mujoco(env) else checked_frame(env.render())

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self.envs[0], acts=True)

    def reset(self) -> VecEnvObs:
        with acting_in(self._config.id):
            return super().reset()

    def close(self) -> None:
        for env in self.envs:
            close_env(env, self._config.id)

    def save_state(self) -> list[dict[str, np.ndarray]]:
        """Of each, all that decides its future; empty where that cannot be had."""
        return [(self._restorable and snapshot(env)) or {} for env in self.envs]

    @cached_property
    def _restorable(self) -> bool:
        return can_be_restored(self._config)

    def load_state(self, saved: list[dict[str, np.ndarray]]) -> bool:
        """Go on from what `save_state` gave, after a reset; give whether that could be done.

        Raises:
            UserError: The environment is no longer what it was.
        """
        if not all(saved):
            return False
        try:
            for env, state in zip(self.envs, saved, strict=True):
                restore(env, state)
        except (Exception, SystemExit) as error:  # the user's own code may fail in any way
            raise UserError(
                f"{self._config.id} cannot go on from where it was ({sentence(error)}): undo what "
                f"was changed in it, or train anew"
            ) from None
        return True

    def step_wait(self) -> VecEnvStepReturn:
        with self._stopwatch.stage("simulate"), acting_in(self._config.id):
            return self._step_all()

    def _step_all(self) -> VecEnvStepReturn:
        """As SB3's, which copies every number and string in the infos deeply at each step."""
        infos = []
        for i, (env, action) in enumerate(zip(self.envs, self.actions, strict=True)):
            observation, self.buf_rews[i], terminated, truncated, info = env.step(action)
            info = {**info, "TimeLimit.truncated": truncated and not terminated}
            self.buf_dones[i] = terminated or truncated
            if terminated or truncated:
                if self._early[i] and isinstance(info.get("episode"), dict):
                    del info["episode"]  # a record that its own wrapper made, of a part
                # A copy, because some environments reset what they have given.
                info["terminal_observation"] = np.array(observation)
                observation, self.reset_infos[i] = env.reset()
            self._save_obs(i, observation)
            infos.append(info)
        observations = checked_observations(self._config.id, np.asarray(self._obs_from_buf()))
        return observations, self.buf_rews.copy(), self.buf_dones.copy(), infos


def restarts_early(config: EnvConfig) -> list[bool]:
    """Of each copy, whether it begins a new episode every `restart_every` steps."""
    return [config.restart_every > 0 and i % 2 == 1 for i in range(config.copies)]
