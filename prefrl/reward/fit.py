"""The fit of the ensemble to labels: a bounded number of warm-started gradient steps.

The model is Bradley-Terry on the clips' summed rewards with a share of random answers,
`P(left) = (1 - e) * sigmoid(sum left - sum right) + e / 2` (Christiano et al. 2017, eq. 1 and
section 2.2.3). Each member trains on its own bootstrap sample and carries its own L2 coefficient,
of the layers' weights, which rises while the member's validation loss is above 1.5 times its
training loss and falls while it is below 1.1 times (ibid.). Both losses are means over labels: a
comparison of sums would depend on the sizes of the two sets. Of a few hundred labels it mostly lies
at its upper bound, and the validation loss at 2 to 6 times the other: a higher bound did harm
(docs/experiments.md, "What did not work").
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from prefrl.reward.data import LabelledClips
from prefrl.reward.ensemble import RewardEnsemble

L2_FACTOR = 1.5
L2_START = 1e-3
L2_RANGE = (1e-6, 1e-2)
OVERFIT, UNDERFIT = 1.5, 1.1
LINEAR_PACE = 10
"""Step size of the linear path ÷ that of the hidden layers: it, and not they, is to learn what is
linear."""
ROUND = 40
"""Gradient steps between two looks at the validation loss, at most."""
EVALUATED = 128
"""Latest labels that a look is taken at, so that its cost does not grow with the labels."""


@dataclass(frozen=True)
class FitReport:
    """How a fit ended; `(members,)` arrays, NaN where a member has no such label."""

    training_loss: np.ndarray
    """Mean negative log likelihood of the labels trained on, nats."""
    validation_loss: np.ndarray
    """The same of the labels held out."""
    validation_accuracy: np.ndarray
    """Share of decisive held-out labels that the member predicts."""
    l2: np.ndarray
    """L2 coefficients."""


def negative_log_likelihood(
    logits: torch.Tensor, preferences: torch.Tensor, error_rate: float
) -> torch.Tensor:
    """Loss of each label, nats, in the shape of `logits`.

    Args:
        logits: Summed reward of the left clip less that of the right, `(..., n)`.
        preferences: Preference for the left clip, `(..., n)`: 1, 0 or ½.
        error_rate: Share `e` of answers taken to be uniformly random.
    """
    if error_rate == 0:  # where the logarithm of a rounded sigmoid would be that of 0
        likelihoods = nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
        return -(preferences * likelihoods[0] + (1 - preferences) * likelihoods[1])
    left = (1 - error_rate) * torch.sigmoid(logits) + error_rate / 2
    right = (1 - error_rate) * torch.sigmoid(-logits) + error_rate / 2
    return -(preferences * left.log() + (1 - preferences) * right.log())


class RewardFitter:
    """Fits an ensemble again and again, keeping the optimiser and the L2 coefficients.

    Args:
        ensemble: What is fitted, in place.
        learning_rate: Adam's, of the hidden layers.
        batch_size: Labels per gradient step and member.
        error_rate: See `negative_log_likelihood`.
        rng: Draws the minibatches.
    """

    def __init__(
        self,
        ensemble: RewardEnsemble,
        *,
        learning_rate: float = 1e-3,
        batch_size: int = 32,
        error_rate: float = 0.1,
        rng: np.random.Generator | None = None,
    ) -> None:
        self._ensemble = ensemble
        self._batch_size = batch_size
        self._error_rate = error_rate
        self._rng = rng or np.random.default_rng(0)
        groups: list[dict[str, Any]] = [{"params": [*ensemble.weights, *ensemble.biases]}]
        if ensemble.linear is not None:
            groups.append({"params": [ensemble.linear], "lr": LINEAR_PACE * learning_rate})
        self._optimiser = torch.optim.Adam(groups, lr=learning_rate, fused=True)
        self._l2 = np.full(ensemble.members, L2_START)

    def fit(self, data: LabelledClips, steps: int) -> FitReport:
        """Take `steps` gradient steps on all labels and say how well they are predicted.

        Args:
            data: Labels, of which every member must have one to train on (`data.trainable`).
            steps: Gradient steps of each member, at least one.
        """
        self._ensemble.normalise_inputs(data.inputs.reshape(-1, data.inputs.shape[-1]))
        samples = [_Bootstrap(weights, self._rng) for weights in data.weights.T]
        for done in range(0, steps, ROUND):
            for _ in range(min(ROUND, steps - done)):
                rows = np.stack([sample.draw(self._batch_size) for sample in samples])
                self._step(data.inputs[rows], data.preferences[rows])
            report = self._evaluate(data)
            self._adapt(report)
        return report

    def _step(self, inputs: np.ndarray, preferences: np.ndarray) -> None:
        """One gradient step of each member on its own `(members, batch, 2, T, width)` pairs."""
        members, batch, _, length, width = inputs.shape
        flat = torch.from_numpy(inputs.reshape(members, -1, width))
        sums = self._ensemble(flat).reshape(members, batch, 2, length).sum(-1)
        logits = sums[..., 0] - sums[..., 1]
        loss = negative_log_likelihood(logits, torch.from_numpy(preferences), self._error_rate)
        squares = torch.stack([w.square().sum((1, 2)) for w in self._ensemble.weights])
        l2 = torch.from_numpy(self._l2).float()
        # Members share no parameter, so the sum of their losses trains each on its own.
        total = loss.mean(dim=1).sum() + (l2 * squares.sum(0)).sum()
        self._optimiser.zero_grad()
        total.backward()
        self._optimiser.step()

    @torch.inference_mode()
    def _evaluate(self, data: LabelledClips) -> FitReport:
        recent = slice(max(0, len(data) - EVALUATED), None)
        sums = self._ensemble.clip_sums(torch.from_numpy(data.inputs[recent]))
        logits = sums[..., 0] - sums[..., 1]
        preferences = torch.from_numpy(data.preferences[recent])
        loss = negative_log_likelihood(logits, preferences, self._error_rate).numpy()
        decisive = data.preferences[recent] != 0.5
        right = (logits.numpy() > 0) == (data.preferences[recent] > 0.5)
        held_out = data.held_out[recent].T
        return FitReport(
            training_loss=_masked_mean(loss, data.weights[recent].T),
            validation_loss=_masked_mean(loss, held_out),
            validation_accuracy=_masked_mean(right, held_out & decisive),
            l2=self._l2.copy(),
        )

    def _adapt(self, report: FitReport) -> None:
        with np.errstate(invalid="ignore"):
            ratio = report.validation_loss / report.training_loss
            factor = np.where(ratio > OVERFIT, L2_FACTOR, 1.0)
            factor = np.where(ratio < UNDERFIT, 1 / L2_FACTOR, factor)
        self._l2 = np.clip(self._l2 * factor, *L2_RANGE)

    def state_dict(self) -> dict:
        """Optimiser and L2 coefficients, as tensors and plain values."""
        return {"optimiser": self._optimiser.state_dict(), "l2": torch.from_numpy(self._l2)}

    def load_state_dict(self, state: dict) -> None:
        """Restore what `state_dict` gave."""
        self._optimiser.load_state_dict(state["optimiser"])
        self._l2 = state["l2"].numpy().copy()


class _Bootstrap:
    """A member's training labels, each as often as its weight says, in shuffled epochs."""

    def __init__(self, weights: np.ndarray, rng: np.random.Generator) -> None:
        self._rows = np.repeat(np.arange(len(weights)), weights.astype(int))
        self._rng = rng
        self._queue = np.zeros(0, int)

    def draw(self, n: int) -> np.ndarray:
        while len(self._queue) < n:
            self._queue = np.concatenate([self._queue, self._rng.permutation(self._rows)])
        drawn, self._queue = self._queue[:n], self._queue[n:]
        return drawn


def _masked_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean over the last axis, NaN where all weights are 0."""
    total = weights.sum(axis=-1).astype(float)
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, (values * weights).sum(axis=-1) / total, np.nan)
