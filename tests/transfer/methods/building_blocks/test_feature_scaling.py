"""Features of equal footing, and heads that need not know of it."""

import numpy as np
import torch
from torch.nn import functional

from transfer.methods.building_blocks.feature_scaling import FLOOR, standard


def features(n=50, d=8, seed=0):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(rng.normal(size=d), rng.uniform(1, 3, d), (n, d))).float()


def test_features_get_mean_zero_and_items_a_mean_squared_length_of_one():
    given = features()
    found = standard(given).apply(given).double().numpy()
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(found.var(0), 1 / 8, rtol=1e-5)
    np.testing.assert_allclose((found**2).sum(1).mean(), 1, rtol=1e-5)


def test_a_feature_that_hardly_varies_is_not_blown_up():
    given = features()
    given[:, 3] = 5 + 1e-6 * given[:, 3]
    found = standard(given)
    mean = given.double().numpy().std(0).mean()
    np.testing.assert_allclose(float(found.scale[3]), 1 / (FLOOR * mean * 8**0.5), rtol=1e-5)


def test_constant_features_become_zero():
    found = standard(torch.full((6, 4), 2.5)).apply(torch.full((3, 4), 2.5))
    assert torch.equal(found, torch.zeros(3, 4))


def test_a_folded_head_scores_raw_features_as_it_scored_standardised_ones():
    given = features()
    made = standard(given)
    rng = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(3, 8, generator=rng), torch.randn(3, generator=rng)
    raw = functional.linear(given, *made.folded(weight, bias))
    expected = made.apply(given).numpy() @ weight.numpy().T + bias.numpy()
    np.testing.assert_allclose(raw.numpy(), expected, rtol=1e-4, atol=1e-5)
