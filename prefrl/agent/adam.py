"""SB3's Adam, taking one step for all parameters at once.

torch looks at each parameter on its own, which takes longer than to move the few thousand numbers
of an actor and its critic. While an update lasts, they are one parameter; before and after it, the
state is where SB3's checkpoints look for it.
"""

import torch
from torch import nn

MOMENTS = ("exp_avg", "exp_avg_sq")


class JointAdam:
    """Takes the steps of an Adam whose parameters lie in one array.

    Args:
        owner: SB3's Adam, which has the settings and keeps the state.
        parameters: All its parameters, `(n_parameters,)`, which are views of this array.
        gradient: Theirs in the same order.
    """

    def __init__(
        self, owner: torch.optim.Optimizer, parameters: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        self._owner = owner
        self._joint = nn.Parameter(parameters)
        self._joint.grad = gradient
        group = owner.param_groups[0]
        names = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")
        self._adam = torch.optim.Adam(
            [self._joint], fused=True, **{name: group[name] for name in names}
        )
        self._places = [(parameter, _place(parameter, parameters)) for parameter in group["params"]]

    def begin(self) -> None:
        """Take step size and state over from their owner; before the first step of an update."""
        self._adam.param_groups[0]["lr"] = self._owner.param_groups[0]["lr"]
        state = {name: torch.zeros_like(self._joint) for name in MOMENTS}
        step = torch.zeros(())
        for parameter, place in self._places:
            theirs = self._owner.state.get(parameter)
            if theirs:  # none before the first update
                step.copy_(theirs["step"])
                for name in MOMENTS:
                    state[name][place] = theirs[name].flatten()
        self._adam.state[self._joint] = {"step": step, **state}

    def step(self) -> None:
        """Move all parameters by their gradient."""
        self._adam.step()

    def end(self) -> None:
        """Give the state back; after the last step of an update."""
        state = self._adam.state[self._joint]
        for parameter, place in self._places:
            moments = {name: state[name][place].view_as(parameter).clone() for name in MOMENTS}
            self._owner.state[parameter] = {"step": state["step"].clone(), **moments}


def _place(parameter: torch.Tensor, whole: torch.Tensor) -> slice:
    """Where a view of an array lies in it."""
    begin = (parameter.data_ptr() - whole.data_ptr()) // whole.element_size()
    return slice(begin, begin + parameter.numel())
