"""From stored items to network inputs, and to the network's outputs.

Shapes: N items, B of them per batch, ... the dimensions of a record or an input, D features, K
classes. Batch t depends on the seed and t only, so a run that is interrupted and continued from a
checkpoint makes the same steps.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from transfer.data.items import PoolItems, SourceItems, TrainItems
from transfer.data.storage.tensor_store import Records
from transfer.modalities import lookup
from transfer.modalities.interface import Augmentation, InputSpec, Modality
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
    """Yield the row numbers of steps start..steps-1: epochs over n items, each shuffled."""
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
    """The items with their records on the device, so that no step waits for a copy of them.

    Records on disk stay on disk: they are too large for memory.
    """
    if device == "cpu" or not isinstance(items.records, Tensor):
        return items
    return replace(items, records=items.records.to(device))


def to_input(records: Tensor, recipe: Recipe) -> Tensor:
    """Convert records (B, ...) as stored to a standardised batch on the device."""
    return _standardised(_scaled(records, recipe), recipe.normal, recipe)


def blank_input(recipe: Recipe) -> Tensor:
    """A standardised batch of one item without content, on the CPU."""
    modality = _modality(recipe)
    layout = modality.layout(recipe.spec)
    record = torch.from_numpy(np.zeros((1, *layout.shape), layout.dtype))
    return modality.to_input(modality.scale(record, recipe.spec), recipe.normal, recipe.spec)


def _modality(recipe: Recipe) -> Modality:
    return lookup.of(recipe.spec)


def _scaled(records: Tensor, recipe: Recipe) -> Tensor:
    return _modality(recipe).scale(records.to(recipe.machine.device), recipe.spec)


def _standardised(batch: Tensor, normal: Normalisation, recipe: Recipe) -> Tensor:
    modality = _modality(recipe)
    return modality.lay_out(modality.to_input(batch, normal, recipe.spec))


def _targets(labels: Tensor, classes: int, recipe: Recipe) -> Tensor:
    return functional.one_hot(labels, classes).to(recipe.machine.device, torch.float32)


def training_batch(
    items: TrainItems,
    rows: Tensor,
    recipe: Recipe,
    seed: int,
    step: int,
    *,
    mixed: bool = True,
) -> Batch:
    """Augment and standardise one batch; soft targets where items are mixed as the policy says."""
    rng, modality = generator(seed, step, 2), _modality(recipe)
    batch = modality.augment(_scaled(items.records[rows], recipe), recipe.policy, rng)
    targets = _targets(items.labels[rows], recipe.classes, recipe)
    if mixed:
        batch, targets = modality.mix(batch, targets, recipe.policy, rng)
    return Batch(_standardised(batch, recipe.normal, recipe), targets)


def source_batch(
    source: SourceItems, rows: Tensor, recipe: Recipe, seed: int, step: int
) -> SourceBatch:
    """Augment items of the source and standardise them by the source's own statistics."""
    rng, modality = generator(seed, step, 4), _modality(recipe)
    policy = recipe.source_policy or recipe.policy
    batch = modality.augment(_scaled(source.items.records[rows], recipe), policy, rng)
    targets = _targets(source.items.labels[rows], len(source.class_names), recipe)
    return SourceBatch(_standardised(batch, source.normal, recipe), targets, rows)


def pool_batch(
    pool: PoolItems,
    rows: Tensor,
    recipe: Recipe,
    strong: Augmentation | None,
    seed: int,
    step: int,
) -> PoolBatch:
    """Two augmented views of unlabelled items, neither mixed with other items."""
    scaled, rng, modality = (
        _scaled(pool.records[rows], recipe),
        generator(seed, step, 5),
        _modality(recipe),
    )
    weak = modality.augment(scaled, recipe.policy, rng)
    weak = _standardised(weak, recipe.normal, recipe)
    if strong is None:
        return PoolBatch(weak, weak, rows)
    varied = modality.augment(scaled, strong, rng)
    return PoolBatch(weak, _standardised(varied, recipe.normal, recipe), rows)


def embed(network: Network, records: Records, views: int, recipe: Recipe, seed: int) -> Tensor:
    """Features (V, N, D) by the frozen backbone of records (N, ...) as stored.

    ``views`` augmented views of every item; 0 for the items without augmentation (V = 1). Items are
    not mixed with each other, so that each view has one label.
    """
    network.eval()
    rng, modality = generator(seed, 6), _modality(recipe)

    def view(part: Tensor) -> Tensor:
        batch = _scaled(part, recipe)
        batch = modality.augment(batch, recipe.policy, rng) if views else batch
        return network.backbone(_standardised(batch, recipe.normal, recipe)).float()

    with torch.inference_mode(), recipe.machine.autocast():
        features = [
            torch.cat([view(p) for p in records.split(network.backbone.chunk)])
            for _ in range(max(1, views))
        ]
    return torch.stack(features).clone()


def logits(network: Network, records: Records, recipe: Recipe) -> Tensor:
    """Class scores (N, K) float32 on the CPU of records (N, ...) as stored, unaugmented."""
    network.eval()
    with torch.inference_mode(), recipe.machine.autocast():
        parts = [
            network(to_input(part, recipe)).float().cpu()
            for part in records.split(network.backbone.chunk)
        ]
    return torch.cat(parts)


def preview(
    records: Tensor, policy: Augmentation, spec: InputSpec, copies: int, seed: int = 0
) -> Tensor:
    """Augmented copies (N, copies, ...) of records (N, ...), as they are stored, to look at."""
    modality, rng = lookup.of(spec), torch.Generator().manual_seed(seed)
    scaled = modality.scale(records.repeat_interleave(copies, dim=0), spec)
    varied = modality.unscale(modality.augment(scaled, policy, rng), spec)
    return varied.view(len(records), copies, *records.shape[1:])
