"""Scores against distances, and the temperature against a search by hand."""

from dataclasses import replace

import numpy as np
import torch
from sklearn.neighbors import NearestCentroid

from tests.transfer import tiny
from transfer.methods.building_blocks.closed_form_heads import Rows, frozen
from transfer.methods.frozen_features.nearest_mean import NearestMean, fitted


def trained(method, seen):
    trainer = tiny.trainer(method, seen, tiny.recipe(seen))
    network, _ = frozen(trainer.job)
    return trainer.train(), Rows.of(trainer.job, network, method.views)


def scores(network, features):
    with torch.inference_mode():
        return network.head(torch.from_numpy(features).float()).double().numpy()


def blobs(n=40, spread=2.0, seed=0, groups=None):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    x = np.eye(3, 6)[labels] + spread * rng.normal(size=(n, 6))
    names = np.arange(n).astype(str) if groups is None else np.array(groups)
    return Rows(x, labels, names, 3, 1)


def test_scores_differ_as_squared_distances_to_the_means_do():
    result, rows = trained(NearestMean(views=2), tiny.items())
    x = (rows.features - rows.features.mean(0)) / rows.features.std(0)
    means = np.stack([x[rows.labels == k].mean(0) for k in range(3)])
    distances = np.square(x[:, None] - means).sum(2)
    expected = -(distances - distances[:, :1]) / result.notes["temperature"]
    found = scores(result.network, rows.features)
    np.testing.assert_allclose(found - found[:, :1], expected, atol=1e-3)
    nearest = NearestCentroid().fit(x, rows.labels).predict(x)
    np.testing.assert_array_equal(found.argmax(1), nearest)


def left_out(rows):
    """Minus squared distances to the means of all other groups, by a loop over rows."""
    found = np.zeros((len(rows.labels), 3))
    for i in range(len(found)):
        others = rows.groups != rows.groups[i]
        for k in range(3):
            mean = rows.features[others & (rows.labels == k)].mean(0)
            found[i, k] = -np.square(rows.features[i] - mean).sum()
    return found


def loss(distances, labels, temperature):
    z = distances / temperature
    z = z - z.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), labels]))


def test_the_temperature_has_the_greatest_likelihood_of_items_left_out_with_their_group():
    for groups in (None, [f"g{i // 6}" for i in range(300)]):
        rows = blobs(300, groups=groups)
        _, temperature = fitted(rows)
        grid, distances = np.geomspace(0.5, 500, 700), left_out(rows)
        best = grid[np.argmin([loss(distances, rows.labels, t) for t in grid])]
        assert abs(np.log(temperature / best)) < 0.05


def test_clear_classes_give_surer_answers_than_noise_does():
    def surest(spread):
        rows = blobs(spread=spread)
        found, _ = fitted(rows)
        odds = np.exp(found(rows.features))
        return float((odds.max(1) / odds.sum(1)).mean())

    assert surest(0.1) > 0.95
    assert surest(20.0) < 0.6


def test_one_item_a_class_and_one_class_make_finite_heads():
    for labels in ([0, 1, 2], [1, 1, 1], [0, 0, 2]):
        seen = replace(tiny.items(3), labels=torch.tensor(labels))
        result, rows = trained(NearestMean(views=2), seen)
        found = scores(result.network, rows.features)
        assert np.isfinite(found).all()
        assert set(found.argmax(1)) <= set(labels)


def test_a_class_that_goes_with_the_group_left_out_judges_nothing():
    rows = blobs(9)
    groups = np.where(rows.labels == 2, "both", rows.groups)
    alone = replace(rows, groups=groups)
    rest = alone.where(rows.labels != 2)
    found, temperature = fitted(alone)
    assert np.isfinite(found.weight).all() and temperature > 0
    assert np.isfinite(fitted(rest)[0].weight).all()


def test_features_that_never_vary_give_every_known_class_the_same_score():
    rows = replace(blobs(6), features=np.zeros((6, 6)))
    found, _ = fitted(rows)
    np.testing.assert_array_equal(found(rows.features), np.zeros((6, 3)))
