"""The loop of a tutorial: DataLoader with worker processes, PIL, fp32."""

import torch
from torch import nn

from benchmarks.loops.common import RATE, Task, loader, loss, optimiser

WORKERS = 2


def train(task: Task) -> nn.Module:
    """Train the task's network."""
    return loop(task, WORKERS)


def loop(task: Task, workers: int) -> nn.Module:
    """Train with worker processes that load images; with 0, they are loaded between steps."""
    torch.manual_seed(task.seed)
    network, data, criterion = task.network().train(), loader(task, workers), loss()
    optimise, step = optimiser(network), 0
    for _ in range(task.epochs):
        for images, labels in data:
            for group in optimise.param_groups:
                group["lr"] = RATE * task.rate(step)
            value = criterion(network(images), labels)
            optimise.zero_grad()
            value.backward()
            optimise.step()
            step += 1
    return network
