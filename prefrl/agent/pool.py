"""EnvPool's environments: many at once, in threads, where EnvPool has the same one.

MuJoCo is half of the time of a run on Hopper, Walker2d or Ant; threads of C++ take it off the
core that trains. The observations, rewards and time limits are Gymnasium's (a test compares the
two step by step), and of the infos those that both have. What EnvPool cannot do is to save a state
and to call a user's own Python.
"""

import os
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from prefrl.agent.envs import restarts_early
from prefrl.clips.clip import numbers
from prefrl.clips.simulator import StateReader, is_mujoco
from prefrl.clock import Stopwatch
from prefrl.config import EnvConfig
from prefrl.environment import make_env
from prefrl.errors import RunFailed, UserError
from prefrl.registry import find_spec

POSITIONS = "exclude_current_positions_from_observation"
"""An argument of the locomotion tasks. With it off, an observation begins with all of qpos and
qvel, of which the policy is shown what Gymnasium shows, and clips are drawn from the whole."""

CONTACTS = "include_cfrc_ext_in_observation"
"""An argument of Gymnasium's Ant and Humanoid that EnvPool does not know. With it off, the policy
is not shown what an observation ends with, six numbers for each body."""


class PoolVecEnv(VecEnv):
    """Environments that EnvPool steps in threads; the time waited for them is `simulate`.

    Args:
        config: Which environment, and how many.
        seed: Of the first; each next one takes the next integer.
        stopwatch: Where the time is counted.

    Raises:
        UserError: EnvPool is not installed, or does not have this environment as configured.
    """

    camera = None
    """Nothing here draws itself."""

    def __init__(self, config: EnvConfig, *, seed: int, stopwatch: Stopwatch) -> None:
        self._config = config
        self._stopwatch = stopwatch
        self._pool = _make_pool(config, seed)
        example = make_env(config)
        observation, action = example.observation_space, example.action_space
        assert isinstance(observation, spaces.Box)
        self._scene = _scene_size(example, self._pool)
        self._infos = _info_names(example)
        whole, width = self._pool.observation_space.shape[0], observation.shape[0]
        contacts = 0 if config.kwargs.get(CONTACTS, True) else _contacts_size(example)
        self._columns = slice(whole - contacts - width, whole - contacts)
        example.close()
        super().__init__(config.copies, observation, action)
        self._full = np.zeros((config.copies, whole))
        self._actions = np.zeros((config.copies, *(action.shape or ())))
        self._returns = np.zeros(config.copies)
        self._lengths = np.zeros(config.copies, int)
        self._early = np.array(restarts_early(config))

    def reset(self) -> np.ndarray:
        self._full, _ = self._pool.reset()
        self._returns[:] = 0
        self._lengths[:] = 0
        return self._shown(self._full)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = np.asarray(actions, self._pool.action_space.dtype)

    def step_wait(self) -> VecEnvStepReturn:
        with self._stopwatch.stage("simulate"):
            full, rewards, terminated, truncated, info = self._pool.step(self._actions)
        if terminated.any() and self._config.termination != "allow":
            raise RunFailed(
                f"EnvPool's {self._config.id} ended an episode early and cannot go on in it, "
                f"which tells the agent about the task without any label: leave env.backend at "
                f"'gymnasium'"
            )
        names = [name for name in info if name in self._infos]
        columns = zip(*(info[name].tolist() for name in names), strict=True)
        infos: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in columns]
        infos = infos or [{} for _ in range(self.num_envs)]
        self._returns += rewards
        self._lengths += 1
        restart = self._early & (self._lengths >= self._config.restart_every)
        done = terminated | truncated | restart
        if done.any():
            full = self._begin_anew(np.flatnonzero(done), full, terminated, infos)
        self._full = full
        return self._shown(full), rewards.astype(np.float32), done, infos

    def _begin_anew(
        self, ended: np.ndarray, full: np.ndarray, terminated: np.ndarray, infos: list[dict]
    ) -> np.ndarray:
        """Observations with those of new episodes where one has ended, as SB3 expects them."""
        for i in ended.tolist():
            infos[i]["terminal_observation"] = self._shown(full[i])
            infos[i]["TimeLimit.truncated"] = not terminated[i]
            if not self._early[i]:
                infos[i]["episode"] = {"r": float(self._returns[i]), "l": int(self._lengths[i])}
        full = full.copy()
        full[ended], _ = self._pool.reset(ended.astype(np.int32))
        self._returns[ended] = 0
        self._lengths[ended] = 0
        return full

    def _shown(self, full: np.ndarray) -> np.ndarray:
        return full[..., self._columns]

    @property
    def state_dim(self) -> int:
        """Numbers in what `read_states` gives of each environment; 0: nothing can be drawn."""
        return self._scene and 1 + self._scene

    def read_states(self, out: np.ndarray) -> None:
        """Write the scenes now into `out`, `(n_envs, state_dim)`: time 0, qpos, qvel.

        The velocities are bounded where the observations' are; nothing is drawn from them.
        """
        if self._scene:
            out[:, 0] = 0
            out[:, 1:] = self._full[:, : self._scene]

    def save_state(self) -> list[dict[str, np.ndarray]]:
        """Of each, nothing: EnvPool cannot save a state."""
        return [{}] * self.num_envs

    def load_state(self, saved: list[dict[str, np.ndarray]]) -> bool:
        """False: the episodes start anew."""
        return False

    def close(self) -> None:
        self._pool.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        if attr_name == "render_mode":
            return [None] * len(list(self._get_indices(indices)))
        raise AttributeError(f"EnvPool's environments have no attribute '{attr_name}'")

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        raise AttributeError(f"EnvPool's environments have no attribute '{attr_name}'")

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        raise AttributeError(f"EnvPool's environments have no method '{method_name}'")

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


def _make_pool(config: EnvConfig, seed: int) -> Any:
    try:
        import envpool
    except ImportError:
        raise UserError(
            "env.backend 'envpool' needs EnvPool: `pip install 'prefrl[envpool]'`"
        ) from None
    spec = find_spec(config.id)
    if spec.id not in envpool.list_all_envs():
        raise UserError(f"EnvPool has no {spec.id}: leave env.backend at 'gymnasium'")
    options = envpool.make_spec(spec.id).config._fields
    given = {key: value for key, value in config.kwargs.items() if value is not None}
    arguments = {"max_episode_steps": spec.max_episode_steps} | given
    arguments.pop(CONTACTS, None)
    if config.termination != "allow" and "terminate_when_unhealthy" in options:
        arguments.setdefault("terminate_when_unhealthy", False)
    if POSITIONS in options:
        arguments[POSITIONS] = False
    if unknown := sorted(set(arguments) - set(options)):
        raise UserError(
            f"EnvPool's {spec.id} has no argument '{unknown[0]}': leave env.backend at 'gymnasium'"
        )
    return envpool.make(
        spec.id,
        env_type="gymnasium",
        num_envs=config.copies,
        num_threads=config.threads or len(os.sched_getaffinity(0)),
        seed=seed,
        **arguments,
    )


def _info_names(example: gym.Env) -> set[str]:
    """The single numbers that Gymnasium's environment puts into a step's info."""
    example.reset(seed=0)
    *_, info = example.step(example.action_space.sample())
    return set(numbers(info))


def _contacts_size(example: gym.Env) -> int:
    """Numbers in the contact forces of all bodies but the world's."""
    return 6 * (example.unwrapped.model.nbody - 1)  # type: ignore[attr-defined]


def _scene_size(example: gym.Env, pool: Any) -> int:
    """Leading numbers of EnvPool's observations that are qpos and qvel; 0 where they are not."""
    if not is_mujoco(example):
        return 0
    model = example.unwrapped.model  # type: ignore[attr-defined]
    scene = model.nq + model.nv
    begins_so = POSITIONS in pool.spec.config._fields or pool.observation_space.shape[0] == scene
    return scene if begins_so and StateReader(example).size == 1 + scene else 0
