"""The sampler: from the latest clips to the pairs that are asked.

Every clip is used in one query at most. That keeps a batch from asking one thing many times, and
lets clips be held out of a member's training by whole queries.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from prefrl.clips.clip import ClipBuffer
from prefrl.queries.rules import Rule, Share, checked_score
from prefrl.reward.ensemble import RewardEnsemble


def select_pairs(
    buffer: ClipBuffer,
    ensemble: RewardEnsemble,
    rule: Rule,
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
        rule: How to choose, as in `prefrl.queries.rules.RULES`.
        n: Pairs wanted; `m` is smaller where too few clips are fresh.
        candidates: Candidate pairs for each pair wanted.
        rng: Draws the candidates, their sides and what is in any order.

    Raises:
        RunFailed: The user's own score is not a number for each pair.
    """
    fresh = buffer.fresh()
    n = min(n, len(fresh) // 2)
    if n <= 0:
        return np.zeros((0, 2), int)
    if rule.newest < 1 and ensemble.fitted:
        # Four clips at least for each pair, so that there is something to choose from.
        newest = max(4 * n, math.ceil(rule.newest * len(fresh)))
        fresh = np.sort(fresh[np.argsort(-buffer.arrays["steps"][fresh], kind="stable")][:newest])
    pairs = candidate_pairs(fresh, n * candidates, rng)
    if not ensemble.fitted:
        return _disjoint(pairs, np.arange(len(pairs)), n, set())
    clips, places = np.unique(pairs, return_inverse=True)
    inputs = buffer.inputs(clips)
    left, right = places.reshape(pairs.shape).T
    preferences = predict(ensemble_sums(ensemble, inputs), left, right)
    spread = any(share.shortlist for share in rule.shares)
    embeddings = embed(inputs, ensemble)[np.stack([left, right])] if spread else None

    chosen: list[np.ndarray] = []
    used: set[int] = set()
    for share, count in zip(rule.shares, _split(rule.shares, n), strict=True):
        scores = checked_score(share.score, preferences) if share.score else rng.random(len(pairs))
        order = np.argsort(-scores, kind="stable")
        if share.shortlist and embeddings is not None:
            order = _spread(order[: share.shortlist * count], embeddings, count)
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
    with torch.inference_mode():
        # In blocks that stay in the processor's cache.
        blocks = [ensemble.clip_sums(block) for block in torch.from_numpy(inputs).split(64)]
        return torch.cat(blocks, dim=1).numpy()


def predict(sums: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Each member's probability that the left clip is better: `(members, n_pairs)`.

    Args:
        sums: `(members, n_clips)`, from `ensemble_sums`.
        left, right: `(n_pairs,)` places of clips in `sums`.
    """
    return 1 / (1 + np.exp(np.clip(sums[:, right] - sums[:, left], -50, 50)))


def embed(inputs: np.ndarray, ensemble: RewardEnsemble) -> np.ndarray:
    """Clips as points whose distance says how alike they look: `(n, 2 * width)`.

    Mean and spread over time of each normalised input.

    Args:
        inputs: `(n, T, width)`.
        ensemble: Gives the inputs' scales.
    """
    width = inputs.shape[-1]
    scaled = (inputs - ensemble.input_mean.numpy()[:width]) / ensemble.input_sd.numpy()[:width]
    return np.concatenate([scaled.mean(axis=1), scaled.std(axis=1)], axis=1)


def _split(shares: Sequence[Share], n: int) -> list[int]:
    """How many of `n` pairs each share fills; rounding favours the first."""
    ends = np.ceil(np.cumsum([share.of_batch for share in shares]) * n - 1e-9).astype(int)
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
    points = embeddings[:, order].astype(np.float64)
    squares = np.square(points).sum(axis=-1)
    chosen = [0]
    nearest = np.full(len(order), np.inf)
    for _ in range(min(n, len(order)) - 1):
        last = chosen[-1]
        # Between either clip of each pair and either clip of the last: (2, k, 2).
        between = squares[:, :, None] + squares[:, last] - 2 * (points @ points[:, last].T)
        apart = np.sqrt(np.maximum(between, 0.0))
        same, crossed = apart[0, :, 0] + apart[1, :, 1], apart[0, :, 1] + apart[1, :, 0]
        nearest = np.minimum(nearest, np.minimum(same, crossed))
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    rest = np.setdiff1d(np.arange(len(order)), chosen)
    return order[np.concatenate([np.array(chosen), rest])]
