"""PPO's loss and its gradient (Schulman et al. 2017, eq. 7 and 9), as SB3 computes them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer

from prefrl.agent.actor_critic import LOG_ROOT_TAU, ActorCritic, log_likelihood


class Batch(NamedTuple):
    """Steps of a rollout that one gradient step learns from; float32."""

    observations: np.ndarray
    """`(n, obs_dim)`, as the policy sees them."""
    actions: np.ndarray
    """`(n, act_dim)`, before they were clipped to the environment's bounds."""
    log_likelihoods: np.ndarray
    """Of the actions, when they were taken, `(n,)`."""
    advantages: np.ndarray
    """`(n,)`, brought to mean 0 and sd 1 over the batch."""
    returns: np.ndarray
    """What the values should have been, `(n,)`."""


class Losses(NamedTuple):
    """Of one batch, under SB3's names."""

    policy: float
    value: float
    entropy: float
    """Minus the entropy of the actions, nats."""
    approx_kl: float
    clip_fraction: float


def batches(buffer: RolloutBuffer, size: int) -> Iterator[Batch]:
    """The steps of a full rollout in random order, `size` at a time, which must divide them.

    Draws the order from NumPy's global generator, as SB3 does.
    """
    rollout = next(buffer.get())
    advantages = rollout.advantages.numpy().reshape(-1, size)
    advantages = advantages - advantages.mean(axis=1, keepdims=True)
    advantages /= np.sqrt(np.square(advantages).sum(axis=1, keepdims=True) / (size - 1)) + 1e-8
    columns = (rollout.observations, rollout.actions, rollout.old_log_prob, rollout.returns)
    observations, actions, log_likelihoods, returns = (column.numpy() for column in columns)
    for number, part in enumerate(advantages):
        rows = slice(number * size, (number + 1) * size)
        yield Batch(observations[rows], actions[rows], log_likelihoods[rows], part, returns[rows])


def differentiate(
    networks: ActorCritic, batch: Batch, *, clip_range: float, ent_coef: float, vf_coef: float
) -> Losses:
    """Write the gradient of PPO's loss on a batch into that of `networks`; give the loss's parts.

    Args:
        networks: The policy that is to learn.
        batch: What it learns from.
        clip_range: How far a likelihood may move from what it was and still count.
        ent_coef: Weight of the entropy.
        vf_coef: Weight of the value's squared error.
    """
    n = len(batch.returns)
    means, values = networks.forward(batch.observations)
    sd = np.exp(networks.log_std)
    deviations = (batch.actions - means) / sd
    log_ratio = log_likelihood(deviations, networks.log_std) - batch.log_likelihoods
    ratio = np.exp(log_ratio)
    gain = batch.advantages * ratio
    clipped = batch.advantages * np.minimum(np.maximum(ratio, 1 - clip_range), 1 + clip_range)
    errors = values - batch.returns

    # Where the clipped gain is the lesser one, it does not depend on the policy.
    by_log_likelihood = np.where(gain <= clipped, gain, np.float32(0)) / -n
    weighted = by_log_likelihood[:, None] * deviations
    networks.backward(weighted / sd, errors * (2 * vf_coef / n))
    by_log_std = np.einsum("ij,ij->j", weighted, deviations) - by_log_likelihood.sum()
    networks.log_std_gradient[:] = by_log_std - ent_coef

    return Losses(
        policy=-float(np.minimum(gain, clipped).mean()),
        value=float(np.dot(errors, errors)) / n,
        entropy=-float(networks.log_std.sum()) - (0.5 + LOG_ROOT_TAU) * len(sd),
        approx_kl=float((ratio - 1 - log_ratio).mean()),
        clip_fraction=float((np.abs(ratio - 1) > clip_range).mean()),
    )


def clip_norm(gradient: np.ndarray, most: float) -> None:
    """Shorten a gradient, `(n_parameters,)`, in place to a norm of `most`, if it is longer."""
    norm = float(np.sqrt(np.dot(gradient, gradient)))
    if norm > most:
        gradient *= most / (norm + 1e-6)
