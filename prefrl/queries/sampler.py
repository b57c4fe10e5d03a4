"""The sampler: from the latest clips to the pairs that are asked.

Every clip is used in one query at most. That keeps a batch from asking one thing many times, and
lets clips be held out of a member's training by whole queries.
"""

import math
from collections.abc import Sequence

import numpy as np

from prefrl.clips.clip import ClipBuffer
from prefrl.queries.rules import Share
from prefrl.reward.ensemble import RewardEnsemble

SHORTLIST = 4
"""Best-scored pairs looked at for each one that a diverse share picks."""


def select_pairs(
    buffer: ClipBuffer,
    ensemble: RewardEnsemble,
    rule: Sequence[Share],
    n: int,
    *,
    candidates: int = 10,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose pairs of fresh clips to ask about: `(m, 2)` buffer indices, left and right.

    Args:
        buffer: The latest clips.
        ensemble: Its members' predictions are scored; before its first fit they mean nothing,
            so the choice is random.
        rule: Shares of the batch, as in `prefrl.queries.rules.RULES`.
        n: Pairs wanted; `m` is smaller where too few clips are fresh.
        candidates: Candidate pairs for each pair wanted.
        rng: Draws the candidates, their sides and random scores.
    """
    n = min(n, len(buffer.fresh()) // 2)
    if n <= 0:
        return np.zeros((0, 2), int)
    pairs = candidate_pairs(buffer.fresh(), n * candidates, rng)
    if not ensemble.fitted:
        return _disjoint(pairs, np.arange(len(pairs)), n, set())
    clips, places = np.unique(pairs, return_inverse=True)
    inputs = buffer.inputs(clips)
    sums = ensemble_sums(ensemble, inputs)
    left, right = places.reshape(pairs.shape).T
    preferences = 1 / (1 + np.exp(np.clip(sums[:, right] - sums[:, left], -50, 50)))
    embeddings = embed(inputs, ensemble)[np.stack([left, right])]

    chosen: list[np.ndarray] = []
    used: set[int] = set()
    for share, count in zip(rule, _split(rule, n), strict=True):
        order = np.argsort(-share.score(preferences, rng), kind="stable")
        if share.diverse:
            order = _spread(order[: SHORTLIST * count], embeddings, count)
        chosen.append(_disjoint(pairs, order, count, used))
    picked = np.concatenate(chosen)
    if len(picked) < n:  # shares whose best pairs met used clips are filled up from the rest
        picked = np.concatenate(
            [picked, _disjoint(pairs, rng.permutation(len(pairs)), n - len(picked), used)]
        )
    return picked


def candidate_pairs(fresh: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """At most `n` different pairs of different clips, sides random: `(m, 2)`.

    Pairs drawn twice are dropped, so `m` is smaller than `n` where few clips are fresh. The
    first `len(fresh) // 2` pairs share no clip.

    Args:
        fresh: `(k,)` indices of clips, at least two.
        n: Pairs wanted, at least one.
        rng: Draws them.
    """
    half = len(fresh) // 2
    rounds = math.ceil(n / half)
    shuffled = [rng.permutation(fresh)[: 2 * half].reshape(half, 2) for _ in range(rounds)]
    pairs = np.concatenate(shuffled)
    _, first = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
    return pairs[np.sort(first)][:n]


def ensemble_sums(ensemble: RewardEnsemble, inputs: np.ndarray) -> np.ndarray:
    """Each member's summed raw reward of each clip: `(members, n_clips)`.

    Args:
        inputs: `(n_clips, T, obs_dim + act_dim)`.
    """
    import torch

    with torch.inference_mode():
        # In blocks that stay in the processor's cache.
        blocks = [ensemble.clip_sums(block) for block in torch.from_numpy(inputs).split(64)]
        return torch.cat(blocks, dim=1).numpy()


def embed(inputs: np.ndarray, ensemble: RewardEnsemble) -> np.ndarray:
    """Clips as points whose distance says how alike they look: `(n, 2 * width)`.

    Mean and spread over time of each normalised input.

    Args:
        inputs: `(n, T, width)`.
        ensemble: Gives the inputs' scales.
    """
    scaled = (inputs - ensemble.input_mean.numpy()) / ensemble.input_sd.numpy()
    return np.concatenate([scaled.mean(axis=1), scaled.std(axis=1)], axis=1)


def _split(rule: Sequence[Share], n: int) -> list[int]:
    """How many of `n` pairs each share fills; rounding favours the first."""
    ends = np.ceil(np.cumsum([share.of_batch for share in rule]) * n - 1e-9).astype(int)
    return np.diff([0, *ends]).tolist()


def _disjoint(pairs: np.ndarray, order: np.ndarray, n: int, used: set[int]) -> np.ndarray:
    """The first `n` pairs in `order` that share no clip with one another or with `used`."""
    picked: list[tuple[int, int]] = []
    for left, right in pairs[order]:
        if len(picked) == n:
            break
        if left not in used and right not in used:
            used.update((int(left), int(right)))
            picked.append((left, right))
    return np.array(picked, int).reshape(-1, 2)


def _spread(order: np.ndarray, embeddings: np.ndarray, n: int) -> np.ndarray:
    """`order` with `n` far-apart pairs first: greedy k-centre from the best-scored one.

    Two pairs are as far apart as their clips are, whichever way round they are laid together.

    Args:
        order: `(k,)` places of pairs, best first.
        embeddings: `(2, n_pairs, width)` of the left and right clips.
        n: Pairs to spread.
    """
    if not len(order):
        return order
    left, right = embeddings[:, order]
    chosen = [0]
    nearest = np.full(len(order), np.inf)
    for _ in range(min(n, len(order)) - 1):
        last = chosen[-1]

        def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.linalg.norm(a - b, axis=1)

        same = apart(left, left[last]) + apart(right, right[last])
        crossed = apart(left, right[last]) + apart(right, left[last])
        nearest = np.minimum(nearest, np.minimum(same, crossed))
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    rest = np.setdiff1d(np.arange(len(order)), chosen)
    return order[np.concatenate([np.array(chosen), rest])]
