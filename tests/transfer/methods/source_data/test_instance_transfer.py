"""Weights of the source's items: against densities that are known, and in the loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.transfer import domains, tiny
from transfer.methods.building_blocks.shared_head import DomainFeatures
from transfer.methods.source_data.instance_transfer import InstanceTransfer, Weights, importance

PLAIN = {"flatten": 1.0, "clip": 1e9, "inverse": 1e6}


def normal(n, mean, seed):
    return np.random.default_rng(seed).normal(mean, 1.0, (n, 2))


def test_weights_are_the_ratio_of_the_densities():
    """For N(0, 1) and N(1, 1) in each of two dimensions: p_t / p_s = exp(x + y - 1)."""
    source, target = normal(20_000, 0.0, 0), normal(5_000, 1.0, 1)
    found = importance(source, target, **PLAIN)
    expected = np.exp(source.sum(axis=1) - 1)
    inner = expected < 5
    np.testing.assert_allclose(found[inner], expected[inner], rtol=0.15)
    weighted = (found[:, None] * source).mean(axis=0)
    np.testing.assert_allclose(weighted, target.mean(axis=0), atol=0.1)


def test_like_domains_have_like_weights():
    found = importance(normal(5000, 0.0, 0), normal(5000, 0.0, 1), **PLAIN)
    assert np.abs(found - 1).max() < 0.25


def test_the_mean_is_one_and_flattening_is_a_power_of_the_ratio():
    source, target = normal(50, 0.0, 0), normal(30, 1.0, 1)
    whole = importance(source, target, **PLAIN)
    half = importance(source, target, **{**PLAIN, "flatten": 0.5})
    none = importance(source, target, **{**PLAIN, "flatten": 0.0})
    assert whole.mean() == pytest.approx(1)
    np.testing.assert_allclose(half, np.sqrt(whole) / np.sqrt(whole).mean(), rtol=1e-9)
    np.testing.assert_allclose(none, 1, rtol=1e-12)


def test_no_weight_is_above_the_clip_before_the_last_normalisation():
    source, target = normal(200, 0.0, 0), normal(200, 2.0, 1)
    free = importance(source, target, **PLAIN)
    found = importance(source, target, **{**PLAIN, "clip": 3.0})
    expected = np.minimum(free, 3.0)
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-9)
    assert free.max() > 3


@pytest.mark.parametrize("n", [1, 40])
def test_constant_features_and_separable_domains_give_finite_weights(n):
    constant = importance(np.ones((5, 3)), np.ones((n, 3)), **PLAIN)
    np.testing.assert_allclose(constant, 1)
    apart = importance(normal(30, -50.0, 0), normal(n, 50.0, 1), **PLAIN)
    assert np.isfinite(apart).all() and apart.mean() == pytest.approx(1)


def test_the_loss_weighs_each_item_by_its_row():
    method = InstanceTransfer(source_weight=0.4)
    ready, batch = domains.ready(method), domains.batch(unlabelled=0)
    rows = torch.tensor([3, 0, 11, 5, 5, 9, 1, 2])
    batch = replace(batch, source=replace(batch.source, rows=rows))
    weights = torch.rand(12, generator=domains.seeded_generator(0))
    ready.helpers["weights"] = Weights(weights)
    found = {k: float(v.detach()) for k, v in method.loss(ready, batch, 0.5).items()}
    features, head = DomainFeatures(ready.network, batch), ready.network.head
    scores = ready.helpers["source_head"](features.source, head)
    losses = domains.cross_entropies(scores, batch.source.targets)
    own = domains.cross_entropies(head(features.target), batch.targets)
    expected = {
        "cross_entropy": own.mean(),
        "source": 0.4 * (weights.numpy()[rows] * losses).mean(),
    }
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("pool", [None, tiny.pool()])
def test_items_like_the_targets_weigh_more_and_the_report_says_how_many_count(pool):
    """Half of the source's pictures, of either class, are a quarter as bright as the target's."""
    given, seen = tiny.source(n=40), tiny.items()
    images, dark = tiny.items(40, 2, seed=7).records, np.arange(40) % 4 >= 2
    images[dark] //= 4
    source = replace(given, items=replace(given.items, records=images))
    target = replace(tiny.target(seen), source=source, pool=pool)
    method = InstanceTransfer(regularisation=1.0)
    trainer = tiny.trainer(method, seen, tiny.recipe(seen, steps=2), target=target)
    job = trainer.job
    network = method.prepare(job.network(), job.knowledge, job.class_names).network
    weights = method.weigh(network, job)
    assert weights[~dark].mean() > weights[dark].mean() + 0.15
    share = weights.sum() ** 2 / (weights**2).sum() / 40
    assert trainer.train().notes == {"effective share of the source": pytest.approx(share)}
    assert share < 0.95


def test_it_needs_items_of_the_source():
    seen = tiny.items()
    target = replace(tiny.target(seen), source=None)
    trainer = tiny.trainer(InstanceTransfer(), seen, tiny.recipe(seen, steps=1), target=target)
    with pytest.raises(ValueError, match="items of the source and was given none"):
        trainer.train()
