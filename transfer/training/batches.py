"""From stored items to what a network takes in, and to its answers.

Shapes: N items, B of them a batch, C channels, H x W pixels, D features, K classes.
Batch t depends on the seed and t only, so a run that is cut off and taken up again from a
checkpoint makes the same steps.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from transfer.data.items import PoolItems, SourceItems, TrainItems
from transfer.data.storage.tensor_store import Images
from transfer.modalities.image.augment import AugmentPolicy, augment, mix
from transfer.modalities.normalisation import Normalisation
from transfer.models.network import Network
from transfer.training.method import Batch, PoolBatch, SourceBatch
from transfer.training.recipe import Recipe


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


Set = TypeVar("Set", TrainItems, PoolItems)


def resident(items: Set, device: str) -> Set:
    """The items with their pictures on the device, so that no step waits for a copy of them.

    Pictures on disk stay there: they are larger than what is kept in memory anywhere.
    """
    if device == "cpu" or not isinstance(items.images, Tensor):
        return items
    return replace(items, images=items.images.to(device))


def to_input(images: Tensor, recipe: Recipe) -> Tensor:
    """Pixels (B, C, H, W) uint8 to a standardised batch on the device."""
    return _standardised(_pixels(images, recipe), recipe.normal)


def _pixels(images: Tensor, recipe: Recipe) -> Tensor:
    return images.to(recipe.machine.device).float().div(255)


def _standardised(pixels: Tensor, normal: Normalisation) -> Tensor:
    return normal.apply(pixels).contiguous(memory_format=torch.channels_last)


def training_batch(items: TrainItems, rows: Tensor, recipe: Recipe, seed: int, step: int) -> Batch:
    """Augment and standardise one batch; soft targets where images were mixed."""
    dice = generator(seed, step, 2)
    images = augment(_pixels(items.images[rows], recipe), recipe.policy, dice)
    targets = functional.one_hot(items.labels[rows], recipe.classes).to(images)
    images, targets = mix(images, targets, recipe.policy, dice)
    return Batch(_standardised(images, recipe.normal), targets)


def source_batch(
    source: SourceItems, rows: Tensor, recipe: Recipe, seed: int, step: int
) -> SourceBatch:
    """Augment items of the source and standardise them by the source's own statistics."""
    dice = generator(seed, step, 4)
    policy = recipe.source_policy or recipe.policy
    images = augment(_pixels(source.items.images[rows], recipe), policy, dice)
    targets = functional.one_hot(source.items.labels[rows], len(source.class_names)).to(images)
    return SourceBatch(_standardised(images, source.normal), targets, rows)


def pool_batch(
    pool: PoolItems,
    rows: Tensor,
    recipe: Recipe,
    strong: AugmentPolicy | None,
    seed: int,
    step: int,
) -> PoolBatch:
    """Two augmented views of unlabelled items, neither mixed with other items."""
    pixels, dice = _pixels(pool.images[rows], recipe), generator(seed, step, 5)
    weak = _standardised(augment(pixels, recipe.policy, dice), recipe.normal)
    if strong is None:
        return PoolBatch(weak, weak, rows)
    return PoolBatch(weak, _standardised(augment(pixels, strong, dice), recipe.normal), rows)


def embed(network: Network, images: Images, views: int, recipe: Recipe, seed: int) -> Tensor:
    """Features (V, N, D) by the frozen body of uint8 images (N, C, H, W).

    ``views`` augmented views of every image; 0 for the images as they are (V = 1). Images are not
    mixed with one another: a view belongs to its item's label alone.
    """
    network.eval()
    dice = generator(seed, 6)

    def view(part: Tensor) -> Tensor:
        pixels = _pixels(part, recipe)
        pixels = augment(pixels, recipe.policy, dice) if views else pixels
        return network.backbone(_standardised(pixels, recipe.normal)).float()

    with torch.inference_mode(), recipe.machine.autocast():
        rounds = [
            torch.cat([view(p) for p in images.split(network.backbone.chunk)])
            for _ in range(max(1, views))
        ]
    return torch.stack(rounds).clone()


def logits(network: Network, images: Images, recipe: Recipe) -> Tensor:
    """Class scores (N, K) float32 on the CPU of uint8 images (N, C, H, W), unaugmented."""
    network.eval()
    with torch.inference_mode(), recipe.machine.autocast():
        parts = [
            network(to_input(part, recipe)).float().cpu()
            for part in images.split(network.backbone.chunk)
        ]
    return torch.cat(parts)
