"""Evaluation: deterministic episodes of a run's policy, scored by every reward there is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from prefrl.clips.clip import Clip
from prefrl.clips.render import steps_per_second
from prefrl.clips.tape import Tape
from prefrl.config import Config, EnvConfig
from prefrl.environment import acting_in, checked_observations, close_env, make_env
from prefrl.errors import UserError
from prefrl.labellers.oracle import checked_scores, load_score
from prefrl.metrics import correlation
from prefrl.run import Run

SEED = 1_000_003
"""Of the first evaluation episode; far from any that training uses."""

PIECE = 50
"""Steps over which the correlation of learned and true return is taken."""


@dataclass(frozen=True, eq=False)
class Episode:
    """One whole episode, as a clip, and what each reward makes of it."""

    seed: int
    """That the environment was reset with."""
    seconds: float
    """Length, s of the environment's time."""
    actions: np.ndarray
    """`(T, *action_shape)`, as the environment took them."""
    clip: Clip
    final_info: dict[str, float]
    """Every number in the last step's `info`."""
    rewards: dict[str, np.ndarray]
    """`(T,)` by the name of their sum: `true_return`, `learned_return` unless the run is on the
    true reward, `oracle_return` where the run has an oracle function."""


def evaluate(run: str | Path | Run, *, episodes: int = 20) -> dict[str, Any]:
    """Mean and standard deviation of each return over deterministic episodes.

    Args:
        run: The run or its folder.
        episodes: How many; their seeds are always the same.

    Returns:
        `episodes`, their number; `true_return`, `learned_return` and `oracle_return` where there
        are such, and `info` with every number of the episodes' last `info`, each as `mean`, `std`
        and `best`, the value in the best episode; `best_episode`, its `seed` and the return it
        has the most of, `by`.

    Raises:
        UserError: There is no such run, or no checkpoint of it.
    """
    run = run if isinstance(run, Run) else Run(run)
    if not isinstance(episodes, int | np.integer) or episodes <= 0:
        raise UserError(f"episodes must be at least 1, and whole, got {episodes!r}")
    run.warn_of_edits()
    return summarise(roll_out(run, episodes), deciding_return(run.config))[0]


def roll_out(run: Run, episodes: int) -> list[Episode]:
    """Act deterministically in `episodes` episodes, side by side.

    Raises:
        UserError: The environment is no longer what the policy was trained in.
    """
    run.check_found("labels.oracle")
    score = load_score(run.config.labels.oracle) if run.config.labels.oracle else None
    envs = [make_env(run.config.env) for _ in range(min(episodes, 10))]
    done: list[Episode] = []
    try:
        run.policy.check_env(envs[0], run.config.env.id)
        for first in range(0, episodes, len(envs)):
            batch = envs[: episodes - first]
            for seed, tape in enumerate(_act(run, batch, SEED + first), SEED + first):
                clip = tape.clip()
                rewards = {"true_return": clip.true_rewards}
                if not run.config.run.true_reward:
                    rewards["learned_return"] = run.ensemble.rewards(clip.inputs)
                if score:
                    rewards["oracle_return"] = checked_scores(score, clip)
                seconds = len(clip) / steps_per_second(envs[0])
                done.append(Episode(seed, seconds, tape.actions, clip, tape.info, rewards))
    finally:
        for env in envs:
            close_env(env, run.config.env.id)
    return done


def random_returns(config: EnvConfig) -> np.ndarray:
    """`(20,)` true returns of a policy that draws its actions from the whole space."""
    env = make_env(config)
    env.action_space.seed(SEED)
    returns = np.zeros(20)
    try:
        for i in range(len(returns)):
            env.reset(seed=SEED + i)
            over = False
            while not over:
                _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
                returns[i] += reward
                over = terminated or truncated
    finally:
        close_env(env, config.id)
    return returns


def _act(run: Run, envs: list[gym.Env], seed: int) -> list[Tape]:
    """One episode in each environment; the policy is asked for all that still run at once."""
    tapes = [Tape(env) for env in envs]
    with acting_in(run.config.env.id):
        for i, tape in enumerate(tapes):
            tape.reset(seed=seed + i)
    running = tapes
    while running:
        observations = np.stack([tape.observation for tape in running])
        actions = run.policy.predict(checked_observations(run.config.env.id, observations))
        with acting_in(run.config.env.id):
            over = [any(tape.step(a)) for tape, a in zip(running, actions, strict=True)]
        running = [tape for tape, ended in zip(running, over, strict=True) if not ended]
    return tapes


def deciding_return(config: Config) -> str:
    """The return by which episodes are better or worse: what says best what the labels went by.

    That is the oracle function's, if there is one, though a person answer; the true one where an
    oracle answers; else (by people, or from labels taken over alone) the learned one.
    """
    if config.run.true_reward:
        return "true_return"
    if config.labels.oracle:
        return "oracle_return"
    return "true_return" if config.labels.labeller == "oracle" else "learned_return"


def best_episode(episodes: list[Episode], by: str) -> Episode:
    """The episode with the highest return of that name."""
    returns = [episode.rewards[by].sum() for episode in episodes]
    return episodes[int(np.argmax(np.nan_to_num(returns, nan=-np.inf)))]


def summarise(episodes: list[Episode], by: str = "true_return") -> tuple[dict[str, Any], float]:
    """Means and deviations of all returns, and how learned and true return go together.

    Args:
        episodes: What `roll_out` gave.
        by: Name of the return that decides which episode is best.

    Returns:
        The summary of `evaluate`, and the Pearson correlation of learned and true return over
        pieces of `PIECE` steps, rests left out (NaN without a learned reward).
    """
    best = best_episode(episodes, by)

    def spread(values: dict[int, float]) -> dict[str, float]:
        """Of the values by episode seed; an info may be missing in some."""
        found = list(values.values())
        both = {"mean": float(np.mean(found)), "std": float(np.std(found))}
        return both | ({"best": values[best.seed]} if best.seed in values else {})

    summary: dict[str, Any] = {"episodes": len(episodes)}
    for name in best.rewards:
        summary[name] = spread({e.seed: float(e.rewards[name].sum()) for e in episodes})
    summary["best_episode"] = {"seed": best.seed, "by": by}
    measures = dict.fromkeys(key for e in episodes for key in e.final_info)
    summary["info"] = {
        key: spread({e.seed: e.final_info[key] for e in episodes if key in e.final_info})
        for key in measures
    }
    if "learned_return" not in best.rewards:
        return summary, float("nan")
    pieces = [_piece_sums(episodes, name) for name in ("learned_return", "true_return")]
    return summary, correlation(*pieces)


def _piece_sums(episodes: list[Episode], name: str) -> np.ndarray:
    """Sums of whole pieces: that of a rest would tell its length. A short episode is one piece."""
    rewards = [episode.rewards[name] for episode in episodes]
    return np.array(
        [
            r[begin : begin + PIECE].sum()
            for r in rewards
            for begin in range(0, max(1, len(r) - PIECE + 1), PIECE)
        ]
    )
