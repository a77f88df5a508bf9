"""Batches and tiny trainings of methods that read items of two domains."""

from dataclasses import replace

import numpy as np
import torch

from tests.transfer import tiny
from transfer.methods.building_blocks.shared_head import DomainFeatures
from transfer.training.loop import Beside, fit
from transfer.training.method import Batch, PoolBatch, SourceBatch

SOURCE = ("betula", "fagus")


def seeded_generator(seed):
    return torch.Generator().manual_seed(seed)


def inputs(n, seed, shift=0.0):
    return torch.randn(n, 1, tiny.SIDE, tiny.SIDE, generator=seeded_generator(seed)) + shift


def chances(n, k, seed):
    return torch.rand(n, k, generator=seeded_generator(seed)).softmax(dim=1)


def batch(labelled=6, source=8, unlabelled=10, classes=2):
    """Labelled, source and unlabelled items, each of another brightness."""
    pool = inputs(unlabelled, 3, shift=2.0)
    return Batch(
        inputs(labelled, 1),
        chances(labelled, 3, 4),
        SourceBatch(
            inputs(source, 2, shift=-3.0), chances(source, classes, 5), torch.arange(source)
        ),
        PoolBatch(pool, pool, torch.arange(unlabelled)) if unlabelled else None,
    )


def ready(method, class_names=SOURCE):
    """A method's network, in evaluation mode so that a pass changes nothing."""
    prepared = method.prepare(tiny.network(), tiny.knowledge(class_names), tiny.CLASSES)
    prepared.network.eval()
    return prepared


def features(prepared, told):
    """Features (M, D) of the source's items and (N + U, D) of the target's, float64 NumPy."""
    with torch.no_grad():
        both = DomainFeatures(prepared.network, told).domains()
    return tuple(x.double().numpy() for x in both)


def marked():
    """Items of a source with the target's classes, and a bright edge by which to know them."""
    given = tiny.source(n=24, class_names=tiny.CLASSES)
    images = given.items.records.clone()
    images[..., :3] = 255
    return replace(given, items=replace(given.items, records=images))


def drawn(method, source, labelled=12, steps=30):
    """Features by a network that a method trained: of the source's items, and of the target's."""
    seen = tiny.items()
    prepared = ready(method, source.class_names)
    recipe = tiny.recipe(seen, steps=steps, batch_size=12)
    beside, taken = Beside(source, tiny.pool_of(seen)), seen.take(np.arange(len(seen)) < labelled)
    network, _ = fit(method, prepared, taken, recipe, seed=0, beside=beside)
    own, other = source.items.records.float() / 255, seen.records.float() / 255
    with torch.no_grad():
        network.backbone.train()
        features = [network.backbone(source.normal.apply(own))]
        features.append(network.backbone(recipe.normal.apply(other)))
    return prepared, *(x.double().numpy() for x in features)


def cross_entropies(scores, chance):
    """Cross-entropy (N) in nats of scores (N, K), by NumPy."""
    scores, chance = scores.detach().double().numpy(), chance.double().numpy()
    return -(chance * (scores - np.log(np.exp(scores).sum(1, keepdims=True)))).sum(1)
