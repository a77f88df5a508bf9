"""What moves the weights: the optimiser, and the average of where it has been."""

import torch
from torch import Tensor

from transfer.training.method import Prepared


def optimiser(prepared: Prepared, decay: float) -> torch.optim.AdamW:
    """AdamW over a method's groups of parameters, each with its peak rate in the key "peak".

    Args:
        prepared: names the groups and their rates.
        decay: weight decay of matrices and kernels; vectors, biases among them, have none.
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
    """Exponential moving average of every tensor of a network and of what is trained beside it,
    started late."""

    def __init__(self, decay: float, state: dict[str, Tensor] | None = None) -> None:
        self.decay, self.state = decay, state or {}

    def update(self, tensors: dict[str, Tensor]) -> None:
        """Move towards the tensors as they are now; those seen for the first time are copied."""
        known = [n for n, t in tensors.items() if t.is_floating_point() and n in self.state]
        if known:
            mine, now = [self.state[n] for n in known], [tensors[n].detach() for n in known]
            torch._foreach_lerp_(mine, now, 1 - self.decay)
        for name in tensors.keys() - set(known):
            self.state[name] = tensors[name].detach().clone()
