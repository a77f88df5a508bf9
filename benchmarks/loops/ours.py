"""crosstrain's loop: images in one tensor, augmented in batches, channels last."""

from torch import nn

from benchmarks.loops.common import (
    CLASSES,
    DECAY,
    POLICY,
    RATE,
    SMOOTHING,
    SPEC,
    WARMUP,
    Task,
    items,
)
from transfer.data.items import normalisation
from transfer.methods.baselines.scratch import Scratch
from transfer.training.loop import fit
from transfer.training.recipe import Machine, Recipe, TrainingSettings


def train(task: Task, precision: str = "fp32") -> nn.Module:
    """Train the task's network; the weights are averaged as always."""
    train_items = items(task.images, task.labels)
    method = Scratch(learning_rate=RATE)
    training = TrainingSettings(
        steps=task.steps,
        batch_size=task.batch,
        weight_decay=DECAY,
        label_smoothing=SMOOTHING,
        warmup=WARMUP,
    )
    machine = Machine("cpu", precision)
    recipe = Recipe(
        training, POLICY, normalisation(train_items, SPEC), len(CLASSES), machine, spec=SPEC
    )
    network, _ = fit(
        method,
        method.prepare(task.network(), None, CLASSES),
        train_items,
        recipe,
        seed=task.seed,
    )
    return network
