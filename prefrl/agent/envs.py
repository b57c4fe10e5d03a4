"""Environments for the agent: found, checked, made with a fixed horizon, vectorised.

An episode that can end early tells the agent about the task without any label: where it ends on
failure, longer is better, and a reward of +1 for every step learns CartPole. So every environment
runs to its time limit, or is refused.
"""

import importlib
import inspect
import logging
import os
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from prefrl.clips.clip import Clip, numbers
from prefrl.clips.recorder import encode_actions
from prefrl.clips.simulator import read_state
from prefrl.clock import Stopwatch
from prefrl.config import EnvConfig
from prefrl.errors import RunFailed, UserError, nearest

log = logging.getLogger("prefrl")

PROBE_STEPS = 300


class FixedHorizon(gym.Wrapper):
    """Acts on to the time limit: termination is dropped (`ignore`) or fails the run (`refuse`)."""

    def __init__(self, env: gym.Env, termination: str) -> None:
        super().__init__(env)
        self._refuse = termination == "refuse"

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated and self._refuse:
            assert self.spec is not None
            raise RunFailed(
                f"{self.spec.id} ended an episode early, which tells the agent about the task "
                f"without any label: start again with --allow-termination if that is wanted, or "
                f"with a preset that sets env.termination to 'ignore'"
            )
        return observation, reward, False, truncated, info


def find_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """The registered environment of that id; imports its module if the id names one.

    Raises:
        UserError: There is none, or it has no time limit.
    """
    route_mujoco_warnings()
    module, _, name = env_id.rpartition(":")
    if env_id.startswith("prefrl/"):
        module = "envs"
    if module:
        _import_module(module, env_id)
    try:
        spec = gym.spec(name)
    except (gym.error.Error, ImportError):
        known = [str(key) for key in gym.registry]
        raise UserError(f"unknown environment '{env_id}': {nearest(name, known)}") from None
    if spec.max_episode_steps is None:
        raise UserError(
            f"{env_id} has no time limit: register it with max_episode_steps, because clips "
            f"and returns are compared over episodes of one length"
        )
    return spec


def _import_module(module: str, env_id: str) -> None:
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` would: a user's module lies beside them
    try:
        importlib.import_module(module)
    except Exception as error:  # the user's own code may fail in any way
        raise UserError(
            f"environment '{env_id}': cannot import '{module}': {_sentence(error)}"
        ) from None
    finally:
        sys.path.pop(0)


def make_env(config: EnvConfig, **kwargs: Any) -> gym.Env:
    """One environment with a fixed horizon, unless `config` allows termination.

    Args:
        config: Which one.
        **kwargs: More arguments for `gymnasium.make`, such as `render_mode`.
    """
    spec = find_spec(config.id)
    arguments = {"disable_env_checker": True} | config.kwargs | kwargs
    if config.termination != "allow" and "terminate_when_unhealthy" in _parameters(spec):
        arguments.setdefault("terminate_when_unhealthy", False)
    try:
        env = gym.make(spec.id, **arguments)
    except gym.error.DependencyNotInstalled as error:
        raise UserError(f"{config.id} needs another package: {error}") from None
    except TypeError as error:
        raise UserError(f"{config.id} does not take these arguments: {error}") from None
    except Exception as error:  # the user's own code may fail in any way
        raise UserError(f"{config.id} cannot be made: {_sentence(error)}") from None
    return env if config.termination == "allow" else FixedHorizon(env, config.termination)


def _parameters(spec: gym.envs.registration.EnvSpec) -> set[str]:
    """Names of the arguments that the environment's constructor spells out."""
    entry = spec.entry_point
    if isinstance(entry, str):
        module, _, name = entry.partition(":")
        try:
            entry = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            return set()
    return set(inspect.signature(entry).parameters) if entry else set()


class TimedVecEnv(DummyVecEnv):
    """Environments stepped in turn in this process; their own time counts as `simulate`.

    In this process on purpose: with small environments, passing steps between processes costs
    more than it saves (1,400 against 2,750 steps/s for HalfCheetah on two cores).

    Args:
        config: Which environment.
        copies: How many.
        seed: Of the first; each next one takes the next integer.
        stopwatch: Where the time is counted.
    """

    def __init__(self, config: EnvConfig, *, copies: int, seed: int, stopwatch: Stopwatch) -> None:
        super().__init__([lambda: Monitor(make_env(config))] * copies)
        self._id = config.id
        self._stopwatch = stopwatch
        self.seed(seed)

    def step_wait(self) -> VecEnvStepReturn:
        try:
            with self._stopwatch.stage("simulate"):
                return super().step_wait()
        except RunFailed:
            raise
        except Exception as error:  # the user's own code may fail in any way
            raise RunFailed(f"{self._id} failed in a step: {_sentence(error)}") from error


def probe(config: EnvConfig, length: int) -> Clip:
    """Check an environment before a run, acting at random; give a clip of `length` steps.

    Raises:
        UserError: Its spaces are not supported, or its episodes end early.
    """
    env = make_env(config)
    try:
        check_spaces(config.id, env)
        inner = env.env if isinstance(env, FixedHorizon) else env
        try:
            clip, ended = _act(inner, length, max(PROBE_STEPS, length))
        except Exception as error:  # the user's own code may fail in any way
            raise UserError(f"{config.id} fails under random actions: {_sentence(error)}") from None
        if not np.isfinite(clip.observations).all():
            raise UserError(f"{config.id} gives observations that are not finite numbers")
        if ended and config.termination == "refuse":
            raise UserError(
                f"{config.id} ends episodes early (after {ended} random steps), which tells the "
                f"agent about the task without any label: choose an environment with a fixed "
                f"horizon, or add --allow-termination"
            )
        return clip
    finally:
        env.close()


def check_spaces(env_id: str, env: gym.Env) -> None:
    """Refuse spaces that clips cannot hold.

    Raises:
        UserError: Names the space that is not supported.
    """
    observation, action = env.observation_space, env.action_space
    if not isinstance(observation, spaces.Box) or len(observation.shape) != 1:
        raise UserError(
            f"{env_id} has observations {_short(observation)}: only flat Box observations are "
            f"supported; gymnasium.wrappers.FlattenObservation makes them"
        )
    if isinstance(action, spaces.Discrete) and action.start != 0:
        raise UserError(f"{env_id} counts its actions from {action.start}: they must start at 0")
    if isinstance(action, spaces.Box) and not action.is_bounded():
        raise UserError(f"{env_id} has unbounded actions: give its Box finite bounds")
    if not isinstance(action, spaces.Box | spaces.Discrete):
        raise UserError(
            f"{env_id} has actions {_short(action)}: only Box and Discrete are supported"
        )


def _sentence(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _short(space: spaces.Space) -> str:
    return f"{type(space).__name__}{space.shape or ''}"


def _act(env: gym.Env, length: int, steps: int) -> tuple[Clip, int]:
    """A random clip, and the step at which an episode terminated (0: none did)."""
    rows: dict[str, list] = {"observations": [], "actions": [], "rewards": [], "states": []}
    infos: list[dict[str, float]] = []
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    ended = 0
    for step in range(1, steps + 1):
        action = env.action_space.sample()
        rows["observations"].append(np.asarray(observation, np.float32))
        rows["actions"].append(encode_actions(env.action_space, np.asarray([action]))[0])
        rows["states"].append(read_state(env))
        observation, reward, terminated, truncated, info = env.step(action)
        rows["rewards"].append(float(reward))
        infos.append(numbers(info))
        if terminated:
            ended = ended or step
        if terminated or truncated:
            observation, _ = env.reset()
    clip = Clip(
        observations=np.stack(rows["observations"][:length]),
        actions=np.stack(rows["actions"][:length]),
        true_rewards=np.array(rows["rewards"][:length]),
        states=np.stack(rows["states"][:length]),
        infos={k: np.array([i.get(k, np.nan) for i in infos[:length]]) for k in infos[0]},
        step=0,
    )
    return clip, ended


def route_mujoco_warnings() -> None:
    """Send MuJoCo's warnings to `logging`; by default they land in a file where one stands."""
    try:
        import mujoco
    except ImportError:
        return
    mujoco.set_mju_user_warning(lambda message: log.debug("mujoco: %s", message))


def choose_renderer() -> str:
    """MuJoCo's GL backend: as set in MUJOCO_GL, else EGL where there is no display.

    Must run before `mujoco` is first imported, which reads the variable then.
    """
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    return os.environ.get("MUJOCO_GL", "glfw")
