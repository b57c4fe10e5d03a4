"""SB3's actor and critic in NumPy, on the parameters' own memory, with their gradient.

Networks of a few dozen units keep a processor busy for microseconds; torch's bookkeeping of each
operation takes several times that, and is most of what PPO costs. Here both networks go through one
matrix product a layer, and every parameter is a view of one array, as is its gradient, so that
torch's optimiser, SB3's checkpoints and `PPO.load` see the parameters that they always saw::

    networks = ActorCritic(model.policy)
    means, values = networks.forward(observations)
    networks.backward(mean_gradients, value_gradients)      # into each parameter's `grad`
    model.policy.optimizer.step()
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

LOG_ROOT_TAU = 0.5 * float(np.log(2 * np.pi))

InPlace = Callable[[np.ndarray], object]

ACTIVATIONS: dict[type[nn.Module], tuple[InPlace, InPlace]] = {
    nn.Tanh: (lambda x: np.tanh(x, out=x), lambda y: np.subtract(1, np.square(y, out=y), out=y)),
    nn.ReLU: (lambda x: np.maximum(x, 0, out=x), lambda y: np.greater(y, 0, out=y)),
}
"""Each activation, and what makes its slope of its output; both in place."""


def is_plain(policy: ActorCriticPolicy) -> bool:
    """Whether `ActorCritic` can stand in for a policy.

    It can for flat Gaussian actions from two separate networks of the same widths, with one of
    `ACTIVATIONS`, on flat observations, where Adam trains them.
    """
    if type(policy) is not ActorCriticPolicy:
        return False
    extractor = policy.mlp_extractor
    actor, critic = _linears(extractor.policy_net), _linears(extractor.value_net)
    return (
        type(policy.action_dist) is DiagGaussianDistribution
        and len(policy.action_space.shape or ()) == 1
        and type(policy.optimizer) is torch.optim.Adam
        and type(policy.features_extractor) is FlattenExtractor
        and policy.share_features_extractor
        and policy.activation_fn in ACTIVATIONS
        and len(actor) > 0
        and [layer.weight.shape for layer in actor] == [layer.weight.shape for layer in critic]
    )


class ActorCritic:
    """Means of the actions and values of the observations, and the gradient with respect to both.

    Args:
        policy: SB3's, for which `is_plain` holds. Its parameters move into one array, where
            whoever holds them goes on seeing them.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        extractor = policy.mlp_extractor
        pairs = zip(_linears(extractor.policy_net), _linears(extractor.value_net), strict=True)
        groups: list[list[torch.Tensor]] = []
        for actor, critic in pairs:
            groups += [[actor.weight, critic.weight], [actor.bias, critic.bias]]
        for head in (policy.action_net, policy.value_net):
            assert isinstance(head, nn.Linear)
            groups += [[head.weight], [head.bias]]
        groups.append([policy.log_std])
        values, gradients, (self.parameters, self.gradient) = _move(groups)
        """All parameters in one array, and their gradient, `(n_parameters,)`."""
        self._hidden = _layers(values[:-5])
        self._hidden_gradients = _layers(gradients[:-5])
        self._heads = _layers([array[0] for array in values[-5:-1]])
        self._head_gradients = _layers([array[0] for array in gradients[-5:-1]])
        self.log_std, self.log_std_gradient = values[-1][0], gradients[-1][0]
        """Natural logarithm of the actions' standard deviations, `(act_dim,)`."""
        self._activate, self._to_slope = ACTIVATIONS[policy.activation_fn]
        self._room: dict[int, _Room] = {}
        self._observations = np.zeros((0, 0), np.float32)

    def forward(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean actions `(n, act_dim)` and values `(n,)` of `observations (n, obs_dim)`, float32."""
        x = self._observations = observations
        for (weight, bias), out in zip(self._hidden, self._room_for(len(x)).outputs, strict=True):
            np.matmul(x, weight.transpose(0, 2, 1), out=out)
            out += bias[:, None]
            self._activate(out)
            x = out
        (action_weight, action_bias), (value_weight, value_bias) = self._heads
        return x[0] @ action_weight.T + action_bias, x[1] @ value_weight[0] + value_bias

    def backward(self, means: np.ndarray, values: np.ndarray) -> None:
        """Write the gradient of a loss into that of all weights and biases.

        Once after each `forward`, whose intermediate results it uses up.

        Args:
            means: The loss's gradient with respect to the mean actions that `forward` gave,
                `(n, act_dim)`.
            values: With respect to the values, `(n,)`.
        """
        outputs, flows = self._room_for(len(values))
        (action_weight, _), (value_weight, _) = self._heads
        action_gradients, value_gradients = self._head_gradients
        np.matmul(means.T, outputs[-1][0], out=action_gradients[0])
        np.sum(means, axis=0, out=action_gradients[1])
        np.matmul(values, outputs[-1][1], out=value_gradients[0][0])
        np.sum(values, keepdims=True, out=value_gradients[1])
        np.matmul(means, action_weight, out=flows[-1][0])
        np.multiply(values[:, None], value_weight, out=flows[-1][1])
        for layer in reversed(range(len(self._hidden))):
            below, flow = outputs[layer - 1] if layer else self._observations, flows[layer]
            self._to_slope(outputs[layer])
            flow *= outputs[layer]
            weight_gradient, bias_gradient = self._hidden_gradients[layer]
            np.matmul(flow.transpose(0, 2, 1), below, out=weight_gradient)
            np.sum(flow, axis=1, out=bias_gradient)
            if layer:
                np.matmul(flow, self._hidden[layer][0], out=flows[layer - 1])

    def _room_for(self, n: int) -> "_Room":
        """Memory for `n` observations, taken once: to take it anew costs as much as to fill it."""
        if n not in self._room:
            shapes = [(2, n, weight.shape[1]) for weight, _ in self._hidden]
            self._room[n] = _Room(*([np.zeros(s, np.float32) for s in shapes] for _ in range(2)))
        return self._room[n]

    def act(
        self, observations: torch.Tensor, deterministic: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Actions `(n, act_dim)`, values `(n, 1)` and log likelihoods `(n,)`.

        Stands in for the policy's `forward`, and draws the same actions from torch's generator.
        """
        means, values = self.forward(observations.numpy())
        sd = np.exp(self.log_std)
        noise = torch.zeros(means.shape) if deterministic else torch.randn(means.shape)
        actions = means + sd * noise.numpy()
        log_likelihoods = log_likelihood((actions - means) / sd, self.log_std)
        return (
            torch.from_numpy(actions),
            torch.from_numpy(values[:, None]),
            torch.from_numpy(log_likelihoods),
        )


class _Room(NamedTuple):
    """What `forward` and `backward` write into: a hidden layer's, `(2, n, width)`, each."""

    outputs: list[np.ndarray]
    flows: list[np.ndarray]


def log_likelihood(deviations: np.ndarray, log_std: np.ndarray) -> np.ndarray:
    """Of actions under independent Gaussians, `(n,)`.

    Args:
        deviations: From the means, in standard deviations, `(n, act_dim)`.
        log_std: Natural logarithm of the standard deviations, `(act_dim,)`.
    """
    constant = log_std.sum() + LOG_ROOT_TAU * len(log_std)
    return -0.5 * np.einsum("ij,ij->i", deviations, deviations) - constant


def _linears(network: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in network if isinstance(layer, nn.Linear)]


def _layers(arrays: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight and bias of each layer, from both in turn."""
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def _move(
    groups: list[list[torch.Tensor]],
) -> tuple[list[np.ndarray], list[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Move parameters and their gradients into one array each.

    Args:
        groups: Of parameters of one shape.

    Returns:
        The views of each group, `(len(group), *shape)`, on values and on gradients, and the
        arrays of all values and all gradients, `(n_parameters,)`.
    """
    size = sum(parameter.numel() for group in groups for parameter in group)
    stores = (np.zeros(size, np.float32), np.zeros(size, np.float32))
    views: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    begin = 0
    for group in groups:
        shape = (len(group), *group[0].shape)
        end = begin + int(np.prod(shape))
        values, gradients = (store[begin:end].reshape(shape) for store in stores)
        for parameter, value, gradient in zip(group, values, gradients, strict=True):
            value[...] = parameter.detach().numpy()
            parameter.data = torch.from_numpy(value)
            parameter.grad = torch.from_numpy(gradient)
        views[0].append(values)
        views[1].append(gradients)
        begin = end
    return *views, stores
