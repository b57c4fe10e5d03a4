"""What a run depends on, tried before anything is written."""

import logging
import math
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from prefrl.agent.envs import restarts_early
from prefrl.agent.pool import PoolVecEnv
from prefrl.agent.ppo import check_agent
from prefrl.agent.trial import TRIAL_STEPS, check_env
from prefrl.clips.clip import Clip, numbers
from prefrl.clips.recorder import FRAMED, count_clips
from prefrl.clips.render import Renderer
from prefrl.clips.simulator import is_mujoco
from prefrl.clock import Stopwatch
from prefrl.config import MOST_STEPS, Config
from prefrl.environment import FRAME_SIZE, close_env, make_drawable
from prefrl.errors import RunFailed, UserError
from prefrl.labellers.display import check_display
from prefrl.labellers.oracle import load_score
from prefrl.labellers.teachers import teacher
from prefrl.labels.answers import Label
from prefrl.labels.store import LabelStore
from prefrl.queries.rules import find_rule
from prefrl.registry import check_found_by_others, find_spec

log = logging.getLogger(__name__)

MANY = 1000
"""Rollouts over which the room for labels is averaged: episodes begin anywhere in them."""

UNUSED = {
    "oracle": {"--ask", "--wait-for-labels"},
    "human": {"--teacher"},
    "none": {"--labels", "--ask", "--wait-for-labels", "--teacher", "--query"},
}
"""Options of `prefrl train` that each labeller has no use for."""


def check_inputs(config: Config) -> Clip:
    """Try what a run depends on, before anything is written; give a clip of random actions.

    Raises:
        UserError: Environment, rule, teacher, PPO settings or oracle cannot be used.
    """
    find_rule(config.query.rule, config.reward.members)
    teacher(config.labels.teacher)
    check_agent(config.agent, config.env.copies)
    limit = _time_limit(config)
    gsde = config.agent.sde_sample_freq > 0
    asks = not config.run.true_reward and config.labels.labeller != "none"
    sample = check_env(config.env, config.clips.length, continuous=gsde, asks=asks)
    _check_lengths(config, limit)
    if config.env.backend == "envpool":
        known = _check_pool(config)
        sample = replace(sample, infos={k: v for k, v in sample.infos.items() if k in known})
    elif config.watched and not sample.states.shape[1]:
        _check_frames(config)
    if config.labels.oracle:
        load_score(config.labels.oracle, sample)
    return sample


def _time_limit(config: Config) -> int | None:
    """Steps after which an episode ends in any case; None: it need not end.

    Raises:
        UserError: It is no number of steps.
    """
    limit = config.env.kwargs.get("max_episode_steps")
    if limit is None:  # for which Gymnasium, too, takes what the environment is registered with
        limit = find_spec(config.env.id).max_episode_steps
    if limit is not None and (not isinstance(limit, int | np.integer) or limit < 1):
        raise UserError(f"max_episode_steps must be a whole number of steps, got {limit!r}")
    return None if limit is None else int(limit)


def _check_lengths(config: Config, limit: int | None) -> None:
    """Whether clips fit into episodes of `limit` steps, and restarts come before their end."""
    restart = config.env.restart_every
    clip = 1 if config.run.true_reward else config.clips.length
    if limit is not None and limit < clip:
        raise UserError(
            f"{config.env.id} has episodes of {limit} steps, shorter than one clip of "
            f"{clip}: use a preset with a smaller clips.length"
        )
    if restart and not clip <= restart < (limit or float("inf")):
        raise UserError(
            f"env.restart_every must be at least one clip of {config.clips.length} steps and less "
            f"than an episode of {limit} steps, or 0, got {restart}"
        )


def check_start(config: Config) -> None:
    """Try what a run depends on that starts anew.

    Raises:
        UserError: What `check_inputs` raises, or there is no display for a window or nothing that
            it could find, no room for the labels, or those to start from are of another kind.
    """
    if config.watched:
        try:
            check_display()
        except UserError as error:
            raise UserError(f"{error}, or train with --labeller oracle") from None
        check_found_by_others(config.env.id)
    sample = check_inputs(config)
    if config.labels.labeller != "none" and not config.run.true_reward:
        drawn = config.labels.labeller == "oracle" or config.env.backend == "envpool"
        _check_room(config, filmed=not drawn and not sample.states.shape[1])
    if config.labels.source:
        check_source(config, sample.inputs.shape)


def _check_pool(config: Config) -> set[str]:
    """Whether EnvPool has the environment and acts on in it; give the infos that clips hold."""
    pool = PoolVecEnv(replace(config.env, copies=1), seed=0, stopwatch=Stopwatch())
    try:
        pool.reset()
        pool.action_space.seed(0)
        for _ in range(TRIAL_STEPS):
            *_, infos = pool.step(np.array([pool.action_space.sample()]))
    except RunFailed as error:
        raise UserError(str(error)) from None
    finally:
        pool.close()
    if config.watched and not pool.state_dim:
        raise UserError(
            f"EnvPool does not say what {config.env.id} looks like, so nobody could watch its "
            f"clips: leave env.backend at 'gymnasium'"
        )
    return set(numbers(infos[0]))


def _check_room(config: Config, *, filmed: bool) -> None:
    """Refuse more labels than can have clips.

    Every query takes two clips of its own, recorded in time and kept until a rollout's end. There
    are fewer clips where the first batch waits for many, or episodes end early.

    Args:
        config: Of the run.
        filmed: Whether only clips of the first copy, which were filmed, can be asked about.

    Raises:
        UserError: Says how many labels may have clips.
    """
    length, capacity = config.clips.length, config.clips.capacity
    copies = restarts_early(config.env)
    if filmed:
        copies, capacity = copies[:1], min(capacity, FRAMED)
    limit = None if config.env.termination == "allow" else _time_limit(config)
    budget, until = config.labels.budget, config.labels.until
    steps = int(config.run.steps * until)

    def pairs(rollouts: int) -> int:
        clips = sum(
            count_clips(
                rollouts,
                config.agent.n_steps,
                length=length,
                episode=config.env.restart_every if early else limit,
            )
            for early in copies
        )
        return clips // 2

    def room(rollouts: int) -> int:
        return min(pairs(rollouts), rollouts * (capacity // 2))

    rollouts = steps // config.rollout_steps
    fit = room(rollouts)
    if budget > fit:
        hint = ""
        if fit < pairs(rollouts) and not filmed:
            hint = ", or raise clips.capacity"
        elif filmed and config.env.copies > 1:
            hint = f" (only the first of {config.env.copies} copies is filmed, to be watched)"
        rate = room(MANY) / MANY
        # Some more than that: it is a mean, and rollouts are whole.
        enough = _rounded_up(1.02 * budget / rate * config.rollout_steps / until) if rate else 0
        more = f"some {enough}" if 0 < enough <= MOST_STEPS else "more"
        raise UserError(
            f"{budget} labels need {2 * budget} clips of {length} steps, but the {steps} steps by "
            f"which all are asked (labels.until) give room for {fit} labels: "
            f"{'ask for fewer labels, or ' if fit else ''}train for {more} steps{hint}"
        )


def _rounded_up(steps: float) -> int:
    """To two figures."""
    if steps > MOST_STEPS:  # which nobody can train for
        return MOST_STEPS + 1
    unit = 10 ** max(0, math.floor(math.log10(steps)) - 1)
    return math.ceil(steps / unit) * unit


def _check_frames(config: Config) -> None:
    """Whether an environment whose state cannot be read draws itself, often enough."""
    env = make_drawable(config.env, *FRAME_SIZE)
    try:
        env.reset(seed=0)
        Renderer(env)
        if is_mujoco(env):
            log.warning(
                "%s is drawn while it acts, and only clips of its first copy can be watched; where "
                "its picture shows MuJoCo's state and nothing else, "
                "metadata['drawn_from_state'] = True draws them from that",
                config.env.id,
            )
    finally:
        close_env(env, config.env.id)


def check_source(config: Config, shape: tuple[int, ...]) -> None:
    """Whether the labels to start from are of this environment and clip length.

    Raises:
        UserError: They are not, or there is no such store.
    """
    path = Path(config.labels.source)
    if not path.is_file():
        hint = f"is a folder: give '{path / 'labels.db'}'" if path.is_dir() else "does not exist"
        raise UserError(f"labels to start from: '{path}' {hint}")
    with LabelStore(path, read_only=True) as source:
        try:
            labels = source.labels()
            if not labels:
                raise UserError(f"labels to start from: '{path}' has none")
            words = nothing_to_learn(config, labels)
            if config.labels.labeller == "none" and words:
                raise UserError(
                    f"labels to start from: '{path}' has none to learn from: "
                    f"all {len(labels)} are {words}"
                )
            # Who writes a store in a program of their own need not say of what it is.
            env_id = source.facts().get("environment", config.env.id)
            found = source.clip(labels[0].query.left_clip).inputs.shape
        except sqlite3.DatabaseError as error:
            raise UserError(f"labels to start from: '{path}' is damaged: {error}") from None
    if env_id != config.env.id or found != shape:
        raise UserError(
            f"labels to start from: '{path}' is of {env_id} with clips {found}, this run is of "
            f"{config.env.id} with clips {shape} (steps, numbers in observation and action): give "
            f"the preset that they were made with"
        )


def nothing_to_learn(config: Config, labels: Sequence[Label]) -> str:
    """What these labels are, such as `equal or skip`, where none teaches anything; else empty."""
    useless = {"skip"} if config.reward.learn_equal else {"skip", "equal"}
    answers = {label.answer for label in labels}
    return " or ".join(sorted(answers)) if answers <= useless else ""


def warn_of_unused(config: Config, options: set[str]) -> None:
    """Say which of these options a run makes no use of; an oracle's score always evaluates it."""
    if config.run.true_reward:
        who, unused = "a run on the true reward", options
    else:
        who = f"a run with labeller '{config.labels.labeller}'"
        unused = options & UNUSED[config.labels.labeller]
    if unused:
        log.warning("%s makes no use of %s", who, ", ".join(sorted(unused)))
