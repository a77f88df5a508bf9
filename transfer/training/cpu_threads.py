"""How many numeric threads a training step on a CPU is worth."""

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from transfer.models.network import Network

EACH = 4e9
"""Floating-point operations per step from which a further thread saves time. Waiting threads sleep,
so that other threads can use their core, and waking them takes longer than a small layer takes.
Measured on two cores, milliseconds of a step with one and two threads: 2e9 operations 50 and 85,
12e9 600 and 515, 26e9 410 and 260, 75e9 850 and 565."""


def worthwhile(network: Network, inputs: Tensor, batch: int) -> int:
    """Number of threads that one training step keeps busy, 1 or more; the same on every machine.

    Args:
        network: left in evaluation mode.
        inputs: a batch of one item (1, ...), as the network's input.
        batch: items per step.
    """
    counts: list[int] = []

    def count(layer: nn.Module, _: object, out: Tensor) -> None:
        weight: Tensor = layer.weight  # type: ignore[assignment]
        counts.append(out.numel() * weight[0].numel())  # multiplications and as many additions

    layers = [layer for layer in network.modules() if isinstance(layer, _ConvNd | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        network.eval()(inputs)
    for hook in hooks:
        hook.remove()
    operations = 3 * 2 * sum(counts) * batch  # forward, and twice as many backward
    return max(1, int(operations // EACH))
