"""Evaluation: deterministic episodes of a run's policy, scored by every reward there is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.clips.clip import Clip, numbers
from prefrl.clips.recorder import encode_actions
from prefrl.environment import make_env
from prefrl.errors import UserError
from prefrl.labellers.oracle import checked_scores, load_score
from prefrl.loop import correlation
from prefrl.run import Run

SEED = 1_000_003
"""Of the first evaluation episode; far from any that training uses."""


@dataclass(frozen=True)
class Episode:
    """One whole episode, as a clip, and what each reward makes of it."""

    clip: Clip
    final_info: dict[str, float]
    """Every number in the last step's `info`."""
    learned_rewards: np.ndarray | None
    """`(T,)`, or None for a run on the true reward."""
    oracle_scores: np.ndarray | None
    """`(T,)`, or None where the run has no oracle function."""


def evaluate(run: str | Path | Run, *, episodes: int = 20) -> dict[str, Any]:
    """Mean and standard deviation of each return over deterministic episodes.

    Args:
        run: The run or its folder.
        episodes: How many; their seeds are always the same.

    Returns:
        `episodes`, `true_return`, `learned_return` and `oracle_return` where there are such, and
        `info` with every number of the episodes' last `info`.

    Raises:
        UserError: There is no such run, or no checkpoint of it.
    """
    run = run if isinstance(run, Run) else Run(run)
    if episodes <= 0:
        raise UserError(f"episodes must be at least 1, got {episodes}")
    return summarise(roll_out(run, episodes))[0]


def roll_out(run: Run, episodes: int) -> list[Episode]:
    """Act deterministically in `episodes` episodes, side by side."""
    envs = [make_env(run.config.env) for _ in range(min(episodes, 10))]
    score = load_score(run.config.labels.oracle) if run.config.labels.oracle else None
    done: list[Episode] = []
    try:
        for first in range(0, episodes, len(envs)):
            batch = envs[: episodes - first]
            for clip, info in _act(run, batch, SEED + first):
                learned = None if run.config.run.true_reward else run.ensemble.rewards(clip.inputs)
                scores = None if score is None else checked_scores(score, clip)
                done.append(Episode(clip, info, learned, scores))
    finally:
        for env in envs:
            env.close()
    return done


def _act(run: Run, envs: list[Any], seed: int) -> list[tuple[Clip, dict[str, float]]]:
    """One episode in each environment; the policy is asked for all that still run at once."""
    observations = [env.reset(seed=seed + i)[0] for i, env in enumerate(envs)]
    rows: list[list[tuple]] = [[] for _ in envs]
    running = list(range(len(envs)))
    while running:
        batch = np.stack([observations[i] for i in running])
        actions = run.policy.predict(batch)
        for i, action in zip(list(running), actions, strict=True):
            before = np.asarray(observations[i], np.float32)
            observations[i], reward, terminated, truncated, info = envs[i].step(action)
            rows[i].append((before, action, float(reward), numbers(info)))
            if terminated or truncated:
                running.remove(i)
    return [(_clip(env, part), part[-1][3]) for env, part in zip(envs, rows, strict=True)]


def _clip(env: Any, rows: list[tuple]) -> Clip:
    observations, actions, rewards, infos = zip(*rows, strict=True)
    return Clip(
        observations=np.stack(observations),
        actions=encode_actions(env.action_space, np.stack(actions)),
        true_rewards=np.array(rewards),
        states=np.zeros((len(rows), 0)),
        infos={k: np.array([info.get(k, np.nan) for info in infos]) for k in infos[0]},
        step=0,
    )


def summarise(episodes: list[Episode], length: int = 50) -> tuple[dict[str, Any], float]:
    """Means and deviations of all returns, and how learned and true return go together.

    Args:
        episodes: What `roll_out` gave.
        length: Steps of the pieces over which the correlation is taken.

    Returns:
        The summary of `evaluate`, and the Pearson correlation of learned and true return over
        pieces of `length` steps (NaN without a learned reward).
    """

    def spread(values: list[float]) -> dict[str, float]:
        return {"mean": float(np.mean(values)), "std": float(np.std(values))}

    summary: dict[str, Any] = {
        "episodes": len(episodes),
        "true_return": spread([float(e.clip.true_rewards.sum()) for e in episodes]),
    }
    learned = [e.learned_rewards for e in episodes if e.learned_rewards is not None]
    if learned:
        summary["learned_return"] = spread([float(r.sum()) for r in learned])
    scores = [e.oracle_scores for e in episodes if e.oracle_scores is not None]
    if scores:
        summary["oracle_return"] = spread([float(s.sum()) for s in scores])
    summary["info"] = {
        key: spread([e.final_info[key] for e in episodes if key in e.final_info])
        for key in episodes[0].final_info
    }
    if not learned:
        return summary, float("nan")
    return summary, correlation(
        _piece_sums(learned, length), _piece_sums([e.clip.true_rewards for e in episodes], length)
    )


def _piece_sums(rewards: list[np.ndarray], length: int) -> np.ndarray:
    pieces = [r[i : i + length].sum() for r in rewards for i in range(0, len(r), length)]
    return np.array(pieces)
