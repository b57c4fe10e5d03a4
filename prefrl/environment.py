"""Environments: made with a fixed horizon, stepped and closed with care for the user's own.

An episode that can end early tells the agent about the task without any label: where it ends on
failure, longer is better, and a reward of +1 for every step learns CartPole. So every environment
runs to its time limit, or is refused.
"""

import importlib
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np

from prefrl.config import EnvConfig
from prefrl.errors import CodeFailed, RunFailed, UserError, place, sentence
from prefrl.registry import find_spec

log = logging.getLogger("prefrl")

FRAME_SIZE = (320, 240)
"""Width and height of a clip's frames, pixels."""


EXACT = (np.float32, np.float64)
"""Types in which PPO, which keeps observations in their own, can keep what they are scaled to."""


class WrongArguments(UserError):
    """An environment's constructor does not take what it is given."""


class EndedEarly(RunFailed):
    """An episode ended before its time limit, so that the run cannot go on as it is configured."""


class FixedHorizon(gym.Wrapper):
    """Acts on to the time limit: an end before that is dropped, or fails the run (`refuse`).

    An end is early whether the environment calls it `terminated` or `truncated`.
    """

    def __init__(self, env: gym.Env, termination: str) -> None:
        super().__init__(env)
        self._refuse = termination == "refuse"

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        whole = truncated and not is_cut_short(self.env)
        if (terminated or truncated) and not whole and self._refuse:
            assert self.spec is not None
            raise EndedEarly(
                f"{self.spec.id} ended an episode early, which tells the agent about the task "
                f"without any label: start again with --allow-termination if that is wanted, or "
                f"with a preset that sets env.termination to 'ignore'"
            )
        return observation, reward, False, whole, info


def is_cut_short(env: gym.Env) -> bool:
    """Whether an episode that ends now has taken fewer steps than the time limit allows."""
    assert env.spec is not None
    limit = env.spec.max_episode_steps
    return limit is not None and env.get_wrapper_attr("_elapsed_steps") < limit


@contextmanager
def acting_in(env_id: str) -> Iterator[None]:
    """Where an environment resets or steps: whatever fails in it, the run fails in a sentence.

    Raises:
        CodeFailed: Says what the environment, which may be the user's own, failed with.
    """
    try:
        yield
    except (RunFailed, UserError):
        raise
    except (Exception, SystemExit) as error:  # the user's own code may fail in any way
        raise CodeFailed(f"{env_id} failed in an episode: {sentence(error)}") from error


def checked_observations(env_id: str, observations: np.ndarray) -> np.ndarray:
    """The observations, of one environment or several.

    Raises:
        CodeFailed: They are not all finite.
    """
    if not np.isfinite(observations).all():
        raise CodeFailed(f"{env_id} gave an observation that is not finite")
    return observations


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
    except (Exception, SystemExit) as error:  # the user's own code may fail in any way
        found: BaseException = error
        if isinstance(error, TypeError) and error.__cause__:
            found = error.__cause__  # to which Gymnasium adds words of its own
        if isinstance(found, TypeError) and "argument" in str(found) and not place(found):
            raise WrongArguments(f"{config.id} does not take these arguments: {found}") from None
        raise UserError(f"{config.id} cannot be made: {sentence(found)}") from None
    observations = _space(env, config.id, "observation_space")
    _space(env, config.id, "action_space")
    if isinstance(observations, gym.spaces.Box) and observations.dtype not in EXACT:
        env = gym.wrappers.DtypeObservation(env, np.float32)
    if config.termination != "allow":
        return FixedHorizon(env, config.termination)
    if env.metadata.get("fixed_horizon"):
        close_env(env, config.id)
        raise UserError(
            f"{config.id} is judged over whole episodes and never ends one early: leave "
            f"--allow-termination out"
        )
    return env


def _space(env: gym.Env, env_id: str, name: str) -> gym.Space:
    try:
        space = getattr(env, name)
    except AttributeError:
        raise UserError(f"{env_id} has no {name}: its __init__ must set one") from None
    if not isinstance(space, gym.Space):
        raise UserError(f"{env_id}'s {name} must be one of gymnasium.spaces, got {space!r}")
    return space


def close_env(env: gym.Env, env_id: str) -> None:
    """Close an environment; if that fails, it is told, and nothing is lost by it."""
    try:
        env.close()
    except (Exception, SystemExit) as error:  # the user's own code may fail in any way
        _warn_once(f"{env_id} fails to close: {sentence(error)}")


@lru_cache(maxsize=64)
def _warn_once(words: str) -> None:
    """Once in this process, which may have dozens of copies of an environment."""
    log.warning("%s", words)


def make_drawable(config: EnvConfig, width: int, height: int) -> gym.Env:
    """One environment that draws frames: of that size where it is MuJoCo's or prefrl's.

    Elsewhere `width` and `height` may mean anything, and what the user's own configuration says of
    them stands in any case.
    """
    size = {"width": width, "height": height}
    asked = {name: value for name, value in size.items() if name not in config.kwargs}
    try:
        if _draws_in_any_size(find_spec(config.id)):
            return make_env(config, render_mode="rgb_array", **asked)
    except UserError:
        pass
    try:
        return make_env(config, render_mode="rgb_array")
    except WrongArguments as error:
        raise UserError(
            f"{config.id} cannot be drawn, for which its constructor has to take "
            f"render_mode='rgb_array': {error}"
        ) from None


def _entry(spec: gym.envs.registration.EnvSpec) -> Any:
    """What makes the environment, as a rule its class; None where that cannot be had."""
    if not isinstance(spec.entry_point, str):
        return spec.entry_point
    module, _, name = spec.entry_point.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit):  # making the environment says why
        return None


def _parameters(spec: gym.envs.registration.EnvSpec) -> set[str]:
    """Names of the arguments that the environment's constructor spells out."""
    try:
        return set(inspect.signature(_entry(spec)).parameters)
    except (TypeError, ValueError):  # of something that is not Python's, or nothing at all
        return set()


def _draws_in_any_size(spec: gym.envs.registration.EnvSpec) -> bool:
    """Whether `width` and `height` are those of its frames."""
    kinds = getattr(_entry(spec), "__mro__", ())
    mujoco = any(kind.__module__.startswith("gymnasium.envs.mujoco.") for kind in kinds)
    return mujoco or spec.namespace == "prefrl"
