"""The optimiser, and the moving average of the weights."""

import torch
from torch import Tensor

from transfer.training.method import Prepared


def optimiser(prepared: Prepared, decay: float) -> torch.optim.AdamW:
    """AdamW over a method's groups of parameters, each with its peak rate in the key "peak".

    Args:
        prepared: has the groups and their rates.
        decay: weight decay of matrices and kernels; vectors, such as biases, have none.
    """
    groups = []
    for parameters, rate in prepared.rates:
        for is_matrix in (True, False):
            chosen = [p for p in parameters if (p.dim() > 1) == is_matrix]
            if chosen:
                groups.append(
                    {"params": chosen, "peak": rate, "weight_decay": decay if is_matrix else 0.0}
                )
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


class Average:
    """Exponential moving average of every tensor of a network and of what is trained with it;
    starts late in training."""

    def __init__(self, decay: float, state: dict[str, Tensor] | None = None) -> None:
        self.decay, self.state = decay, state or {}

    def update(self, tensors: dict[str, Tensor]) -> None:
        """Move the average towards the current tensors; a tensor that it lacks is copied."""
        averaged = [n for n, t in tensors.items() if t.is_floating_point() and n in self.state]
        if averaged:
            averages = [self.state[n] for n in averaged]
            current = [tensors[n].detach() for n in averaged]
            torch._foreach_lerp_(averages, current, 1 - self.decay)
        for name in tensors.keys() - set(averaged):
            self.state[name] = tensors[name].detach().clone()
