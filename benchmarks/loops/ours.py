"""crosstrain's loop: pictures in one tensor, varied in batches, channels last."""

import numpy as np
import torch
from torch import nn

from benchmarks.loops.common import CLASSES, DECAY, POLICY, RATE, SMOOTHING, WARMUP, Task
from transfer.arrays import TrainItems, normalisation
from transfer.fit import fit
from transfer.methods.scratch import Scratch
from transfer.recipe import Budget, Machine, Recipe


def train(task: Task, precision: str = "fp32") -> nn.Module:
    """Train the task's network; the weights are averaged as always."""
    ids = np.arange(len(task.labels)).astype(str)
    images = torch.from_numpy(task.images).unsqueeze(1)
    items = TrainItems(images, torch.from_numpy(task.labels), ids, ids)
    method = Scratch(learning_rate=RATE)
    budget = Budget(
        steps=task.steps,
        batch_size=task.batch,
        weight_decay=DECAY,
        label_smoothing=SMOOTHING,
        warmup=WARMUP,
    )
    machine = Machine("cpu", precision)
    recipe = Recipe(budget, POLICY, normalisation(items), len(CLASSES), machine)
    network, _ = fit(
        method,
        method.prepare(task.network(), None, CLASSES),
        items,
        recipe,
        seed=task.seed,
    )
    return network
