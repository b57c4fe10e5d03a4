"""The reward ensemble: a few small networks, evaluated as one.

All members are evaluated in one call::

    ensemble = RewardEnsemble(obs_dim=17, act_dim=6, members=3)
    ensemble(inputs)                          # (3, n) raw outputs, what the fit works on
    ensemble.reward(observations, actions)    # (n,) the learned reward

A member is hidden layers and, if so wanted, a linear path beside them from its input to its output.
Speed is linear in what a robot observes, and of few labels hidden layers alone also learn to pay a
little for postures, which an agent may settle on. A somersault is not linear in anything. What
actions cost is a square of them: clips of one policy have nearly the same amount of it each, and of
few labels only networks that see `squares` learn it (docs/experiments.md).

The learned reward is the mean over members, each brought to mean 0 and standard deviation 1 on a
reference batch first (Christiano et al. 2017, section 2.2.3), because comparisons say nothing
about a reward's scale and offset, and members drift apart in both. The loop's reference batch is
the first labelled clips, always: a reference that follows the agent would move the reward under
its critic.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn

SLOPE = 0.01
"""Of the leaky ReLU (Christiano et al. 2017, appendix A)."""

INPUT_BOUND = 10.0
"""Normalised inputs are clamped here, in standard deviations, as VecNormalize clamps what the agent
observes: far enough for an agent to become much quicker than labelled clips show it."""


class RewardEnsemble(nn.Module):
    """`members` networks of leaky ReLU layers over an observation and an action.

    Args:
        obs_dim: Width of an observation.
        act_dim: Width of an encoded action.
        members: Networks.
        hidden: Widths of the hidden layers.
        linear_path: Whether there is a linear path beside them, which begins at 0.
        squares: Whether networks see the square of each input's distance from its mean, too.
        seed: Decides the first weights.
    """

    weights: nn.ParameterList
    """One per layer, `(members, fan_in, fan_out)`; `biases` are `(members, 1, fan_out)`."""
    biases: nn.ParameterList
    input_mean: torch.Tensor
    """`(width,)`, of what the networks see: observation and action, with `squares` and theirs."""
    input_sd: torch.Tensor
    output_mean: torch.Tensor
    """`(members, 1)`, on the reference batch."""
    output_sd: torch.Tensor
    fits: torch.Tensor
    """How many times it was brought to scale."""

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        *,
        members: int = 3,
        hidden: tuple[int, ...] = (64, 64),
        linear_path: bool = False,
        squares: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.members = members
        self._squares = squares
        generator = torch.Generator().manual_seed(seed)
        width = (obs_dim + act_dim) * (2 if squares else 1)
        widths = (width, *hidden, 1)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(widths):
            bound = 1 / math.sqrt(fan_in)  # as torch.nn.Linear draws them
            for parameters, shape in (
                (self.weights, (members, fan_in, fan_out)),
                (self.biases, (members, 1, fan_out)),
            ):
                drawn = torch.rand(shape, generator=generator) * 2 * bound - bound
                parameters.append(nn.Parameter(drawn))
        self.linear = nn.Parameter(torch.zeros(members, width, 1)) if linear_path else None
        self.register_buffer("input_mean", torch.zeros(width))
        self.register_buffer("input_sd", torch.ones(width))
        self.register_buffer("output_mean", torch.zeros(members, 1))
        self.register_buffer("output_sd", torch.ones(members, 1))
        self.register_buffer("fits", torch.zeros((), dtype=torch.int64))
        self._look()

    def _look(self) -> None:
        """Take arrays on the memory of parameters and buffers, which change only in place."""
        layers = zip(self.weights, self.biases, strict=True)
        self._fits = self.fits.numpy()
        self._views = (
            [(weight.detach().numpy(), bias.detach().numpy()) for weight, bias in layers],
            None if self.linear is None else self.linear.detach().numpy(),
            self.input_mean.numpy(),
            self.input_sd.numpy(),
            self.output_mean.numpy(),
            self.output_sd.numpy(),
        )

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._look()  # a copy has memory of its own

    @property
    def fitted(self) -> bool:
        """Whether it has learned from any label yet; until then its reward is 0."""
        return bool(self._fits)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Raw outputs `(members, n)`.

        Args:
            inputs: `(n, obs_dim + act_dim)`, the same for all members, or
                `(members, n, obs_dim + act_dim)`, each its own.
        """
        if self._squares:
            off = inputs - self.input_mean[: inputs.shape[-1]]
            inputs = torch.cat([inputs, off.square()], dim=-1)
        x = (inputs - self.input_mean) / self.input_sd
        x = x.clamp(-INPUT_BOUND, INPUT_BOUND)
        # One matrix product per member and layer: forward and backward take 0.55 times as long
        # on a CPU as with torch's batched products.
        return torch.stack(
            [self._member(m, x if x.dim() == 2 else x[m]) for m in range(self.members)]
        )

    def _member(self, member: int, x: torch.Tensor) -> torch.Tensor:
        """Raw outputs `(n,)` of one member for scaled inputs `(n, width)`, squares included."""
        first, last = x, len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.addmm(bias[member], x, weight[member])
            if layer < last:
                x = nn.functional.leaky_relu(x, SLOPE)
        if self.linear is not None:
            x = torch.addmm(x, first, self.linear[member])
        return x.squeeze(-1)

    def clip_sums(self, inputs: torch.Tensor) -> torch.Tensor:
        """Raw outputs summed over each clip: `(members, ...)`.

        Args:
            inputs: `(..., T, obs_dim + act_dim)` shared by all members.
        """
        *shape, length, width = inputs.shape
        return self(inputs.reshape(-1, width)).reshape(self.members, *shape, length).sum(-1)

    def member_rewards(self, inputs: np.ndarray) -> np.ndarray:
        """Each member's normalised reward: `(members, n)`.

        The same network as `forward`, in NumPy on the parameters' own memory: an agent asks
        for a handful of rewards at every step, where torch's overhead is most of the time.

        Args:
            inputs: `(n, obs_dim + act_dim)` float32.
        """
        layers, linear, input_mean, input_sd, output_mean, output_sd = self._views
        if self._squares:
            off = inputs - input_mean[: inputs.shape[-1]]
            inputs = np.concatenate([inputs, np.square(off)], axis=-1)
        x = (inputs - input_mean) / input_sd
        x = first = np.minimum(np.maximum(x, -INPUT_BOUND), INPUT_BOUND)
        for weight, bias in layers[:-1]:
            x = x @ weight + bias
            x = np.maximum(x, SLOPE * x)
        weight, bias = layers[-1]
        x = x @ weight + bias
        if linear is not None:
            x += first @ linear
        return (x[..., 0] - output_mean) / output_sd

    def rewards(self, inputs: np.ndarray) -> np.ndarray:
        """The learned reward `(n,)`, dimensionless; 0 before the first fit.

        Args:
            inputs: `(n, obs_dim + act_dim)` float32.
        """
        if not self.fitted:
            return np.zeros(len(inputs), np.float32)
        members = self.member_rewards(inputs)
        return members.sum(axis=0) / len(members)

    def reward(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """The learned reward `(n,)`, dimensionless.

        Args:
            observations: `(n, obs_dim)`, raw.
            actions: `(n, act_dim)`; a discrete action is one-hot.
        """
        inputs = np.concatenate([np.atleast_2d(observations), np.atleast_2d(actions)], axis=1)
        return self.rewards(inputs.astype(np.float32))

    @torch.no_grad()
    def normalise_inputs(self, inputs: np.ndarray) -> None:
        """Take the inputs' statistics from `inputs`, `(n, obs_dim + act_dim)`."""
        # In float32, sums of many numbers far from 0 would be off by more than they vary.
        mean, sd = inputs.mean(axis=0, dtype=np.float64), inputs.std(axis=0, dtype=np.float64)
        # Rounded, the mean of what never changes is off, and its sd not quite 0.
        constant = inputs.min(axis=0) == inputs.max(axis=0)
        mean, sd = np.where(constant, inputs[0], mean), np.where(constant, 0.0, sd)
        still = sd < 1e-6
        if self._squares:
            squares = np.square(inputs - mean)  # float64, as the mean is
            middle, spread = squares.mean(axis=0), squares.std(axis=0)
            # But for rounding, of an input that is at one of two places it never changes.
            still = np.concatenate([still, still | (spread <= 1e-6 * middle)])
            mean, sd = np.concatenate([mean, middle]), np.concatenate([sd, spread])
        self.input_mean.copy_(torch.from_numpy(mean))
        self.input_sd.copy_(torch.from_numpy(np.where(still, 1.0, sd)))

    @torch.no_grad()
    def normalise_outputs(self, inputs: np.ndarray) -> None:
        """Bring each member to mean 0 and sd 1 on `inputs`, frozen until the next call.

        From the first time on, it is `fitted`.

        Args:
            inputs: `(n, obs_dim + act_dim)`, the reference batch.
        """
        raw = self(torch.from_numpy(inputs))
        self.output_mean.copy_(raw.mean(dim=1, keepdim=True))
        self.output_sd.copy_(raw.std(dim=1, keepdim=True).clamp(min=1e-6))
        self.fits += 1
