"""From stored items to what a network takes in, and to its answers.

Shapes: N items, B of them a batch, C channels, H x W pixels, D features, K classes.
Batch t depends on the seed and t only, so a run that is cut off and taken up again from a
checkpoint makes the same steps.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from transfer.arrays import TrainItems
from transfer.method import Batch
from transfer.modalities.image.augment import augment, mix
from transfer.network import Network
from transfer.recipe import Recipe


def generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU, seeded with all of the numbers."""
    seed = 0
    for number in numbers:  # a fixed mixing of small integers into 63 bits
        seed = (seed * 6364136223846793005 + number + 1442695040888963407) % (2**63)
    return torch.Generator().manual_seed(seed)


def batches(n: int, size: int, seed: int, start: int, steps: int) -> Iterator[Tensor]:
    """Yield the row numbers of steps start..steps-1: passes over n items, shuffled each."""
    epoch, order = -1, torch.empty(0, dtype=torch.long)
    for step in range(start, steps):
        rows: list[Tensor] = []
        position, missing = step * size, size
        while missing:
            if position // n != epoch:
                epoch = position // n
                order = torch.randperm(n, generator=generator(seed, epoch, 1))
            part = order[position % n : position % n + missing]
            rows.append(part)
            position, missing = position + len(part), missing - len(part)
        yield torch.cat(rows)


def to_input(images: Tensor, recipe: Recipe) -> Tensor:
    """Pixels (B, C, H, W) uint8 to a standardised batch on the device."""
    pixels = images.to(recipe.machine.device).float().div(255)
    return recipe.normal.apply(pixels).contiguous(memory_format=torch.channels_last)


def training_batch(items: TrainItems, rows: Tensor, recipe: Recipe, seed: int, step: int) -> Batch:
    """Augment and standardise one batch; soft targets where images were mixed."""
    dice = generator(seed, step, 2)
    pixels = items.images[rows].to(recipe.machine.device).float().div(255)
    images = augment(pixels, recipe.policy, dice)
    targets = functional.one_hot(items.labels[rows], recipe.classes).to(images)
    images, targets = mix(images, targets, recipe.policy, dice)
    inputs = recipe.normal.apply(images).contiguous(memory_format=torch.channels_last)
    return Batch(inputs, targets)


def embed(network: Network, items: TrainItems, views: int, recipe: Recipe, seed: int) -> Tensor:
    """Features (views, N, D) of augmented views of every item by the frozen body.

    Images are not mixed with one another here: a view belongs to its item's label alone.
    """
    unmixed = recipe.policy.model_copy(update={"mixup": 0.0, "cutmix": 0.0})
    recipe = replace(recipe, policy=unmixed)
    network.eval()
    rows = torch.arange(len(items))
    with torch.inference_mode(), recipe.machine.autocast():
        parts = [
            torch.cat(
                [
                    network.backbone(
                        training_batch(
                            items, part, recipe, seed, view * len(items) + int(part[0])
                        ).inputs
                    ).float()
                    for part in rows.split(512)
                ]
            )
            for view in range(views)
        ]
    return torch.stack(parts).clone()


def logits(network: Network, images: Tensor, recipe: Recipe, size: int = 512) -> Tensor:
    """Class scores (N, K) float32 on the CPU of uint8 images (N, C, H, W), unaugmented."""
    network.eval()
    with torch.inference_mode(), recipe.machine.autocast():
        parts = [network(to_input(part, recipe)).float().cpu() for part in images.split(size)]
    return torch.cat(parts)
