"""Environments tried before a run, with random actions: what they give, and whether they resume."""

import logging
from collections.abc import Iterator
from itertools import islice

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from prefrl.clips.clip import Clip, numbers
from prefrl.clips.render import steps_per_second
from prefrl.clips.simulator import restore, snapshot
from prefrl.clips.tape import Tape
from prefrl.config import EnvConfig
from prefrl.environment import EXACT, FixedHorizon, close_env, is_cut_short, make_env
from prefrl.errors import UserError, sentence

log = logging.getLogger(__name__)

TRIAL_STEPS = 300
"""Random steps in which an environment shows what it is like."""

LONGEST_TRIAL = 5_000
"""Steps at most in which it shows whether it can be restored, however long its episodes."""


def can_be_restored(config: EnvConfig) -> bool:
    """Whether the environment goes on from a `snapshot` as if it had not been left.

    It is tried, because nobody can see what an environment keeps, and where: one goes on, and
    another, which has been elsewhere, and in more episodes, from the first one's snapshot, for
    `TRIAL_STEPS` steps, or beyond the end of the episode where that is not too far.
    """
    left, other = make_env(config), make_env(config)
    try:
        left.action_space.seed(0)
        for env, seed, steps in ((left, 0, 10), (other, 1, 3), (other, 2, 3)):
            env.reset(seed=seed)
            actions = [left.action_space.sample() for _ in range(steps)]
            list(islice(_outcomes(env, actions), steps))  # and no reset: in mid-episode
        if (saved := snapshot(left)) is None:
            return False
        restore(other, saved)
        episode = (left.spec and left.spec.max_episode_steps) or 0
        steps = max(TRIAL_STEPS, min(episode, LONGEST_TRIAL))
        actions = [left.action_space.sample() for _ in range(steps)]
        pairs = zip(_outcomes(left, actions), _outcomes(other, actions), strict=True)
        return all(np.array_equal(*pair, equal_nan=True) for pair in pairs)
    except (Exception, SystemExit):  # the user's own code may fail in any way
        return False
    finally:
        close_env(left, config.id)
        close_env(other, config.id)


def _outcomes(env: gym.Env, actions: list) -> Iterator[np.ndarray]:
    """All that an environment gives at each of some steps, and at the reset after them."""
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action.copy())
        yield np.concatenate(
            [observation, [reward, terminated, truncated], list(numbers(info).values())]
        )
        if terminated or truncated:
            yield np.array(env.reset()[0])
    yield np.array(env.reset()[0])


def check_env(
    config: EnvConfig, length: int, *, continuous: bool = False, asks: bool = False
) -> Clip:
    """Check an environment before a run, acting at random; give a clip of `length` steps.

    Args:
        config: Which environment.
        length: Steps.
        continuous: Whether its actions must be, as gSDE needs them.
        asks: Whether anybody will be asked about clips of it.

    Raises:
        UserError: Its spaces are not supported, it does not give what Gymnasium's environments
            give, or its episodes end early.
    """
    env, second = make_env(config), make_env(config)
    try:
        if env.unwrapped is second.unwrapped:
            raise UserError(
                f"{config.id} is the same object each time it is made: what it is registered with "
                f"must make a new one"
            )
        check_spaces(config.id, env)
        if continuous and not isinstance(env.action_space, spaces.Box):
            raise UserError(
                f"agent.sde_sample_freq explores in Box actions, but {config.id} has "
                f"{_short(env.action_space)}: leave it at 0"
            )
        inner = env.env if isinstance(env, FixedHorizon) else env
        try:
            _check_first_step(inner, config.id)
            steps = max(TRIAL_STEPS, length)
            clip, ends = _act(inner, length, steps)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # the user's own code may fail in any way
            raise UserError(f"{config.id} fails under random actions: {sentence(error)}") from None
        if not np.isfinite(clip.observations).all():
            raise UserError(f"{config.id} gives observations that are not finite numbers")
        if ends and config.termination == "refuse":
            raise UserError(
                f"{config.id} ends episodes early (after {ends[0]} random steps), which tells the "
                f"agent about the task without any label: choose an environment with a fixed "
                f"horizon, or add --allow-termination"
            )
        short = max(np.diff([0, *ends, steps])) < length
        if asks and short and config.termination == "allow":
            log.warning(
                "under random actions, %s ends its episodes before the %d steps of a clip "
                "(clips.length): nothing can be asked about those",
                config.id,
                length,
            )
        steps_per_second(env)
        return clip
    finally:
        close_env(second, config.id)
        close_env(env, config.id)


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
    if isinstance(action, spaces.Box) and not (action.low < action.high).any():
        raise UserError(
            f"{env_id} leaves its actions no room: they are all from {action.low.flat[0]:g} to "
            f"{action.high.flat[0]:g} (MuJoCo's motors have a `ctrlrange`)"
        )
    if isinstance(action, spaces.Box) and action.dtype not in EXACT:
        raise UserError(
            f"{env_id} has Box actions of type {action.dtype}, and the agent's are real numbers: "
            f"gymnasium.wrappers.TransformAction makes the one of the other"
        )
    if not isinstance(action, spaces.Box | spaces.Discrete):
        raise UserError(
            f"{env_id} has actions {_short(action)}: only Box and Discrete are supported"
        )


RESET = ("observation", "info")
STEP = ("observation", "reward", "terminated", "truncated", "info")


def _check_first_step(env: gym.Env, env_id: str) -> None:
    """Whether the user's own `reset` and `step` give what Gymnasium's give.

    Raises:
        UserError: Says which of them gives what instead.
    """
    own: gym.Env = env.unwrapped  # under wrappers, which take it for granted
    own.action_space.seed(0)
    action = own.action_space.sample()
    for name, parts, call in (
        ("reset", RESET, lambda: own.reset(seed=0)),
        ("step", STEP, lambda: own.step(action)),
    ):
        given = call()
        if not isinstance(given, tuple) or len(given) != len(parts):
            what = f"a tuple of {len(given)}" if isinstance(given, tuple) else type(given).__name__
            raise UserError(f"{env_id}'s {name} must give ({', '.join(parts)}), and gives {what}")
        if not isinstance(given[-1], dict):
            raise UserError(f"the info that {env_id}'s {name} gives must be a dict")
        shape, wanted = np.shape(given[0]), own.observation_space.shape
        if wanted is not None and shape != wanted:  # a Dict has none, under a wrapper
            raise UserError(
                f"{env_id}'s {name} gives an observation of shape {shape}, but its "
                f"observation_space has {wanted}"
            )


def _short(space: spaces.Space) -> str:
    return f"{type(space).__name__}{space.shape or ''}"


def _act(env: gym.Env, length: int, steps: int) -> tuple[Clip, list[int]]:
    """A random clip, and the steps at which episodes ended early."""
    tape, ends = Tape(env), []
    tape.reset(seed=0)
    env.action_space.seed(0)
    for step in range(1, steps + 1):
        terminated, truncated = tape.step(env.action_space.sample())
        if terminated or (truncated and is_cut_short(env)):
            ends.append(step)
        if terminated or truncated:
            tape.reset()
    return tape.clip(length), ends
