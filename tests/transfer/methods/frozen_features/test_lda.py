"""Scores against the textbook's formula, and covariances that are not there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from tests.transfer import tiny
from transfer.methods.building_blocks.closed_form_heads import Rows, frozen
from transfer.methods.frozen_features.lda import LDA


def trained(method, seen):
    trainer = tiny.trainer(method, seen, tiny.recipe(seen))
    network, _ = frozen(trainer.job)
    return trainer.train(), Rows.of(trainer.job, network, method.views)


def scores(network, features):
    with torch.inference_mode():
        return network.head(torch.from_numpy(features).float()).double().numpy()


def log_posterior(found):
    return found - np.logaddexp.reduce(found, axis=1, keepdims=True)


def test_its_posterior_is_that_of_gaussian_classes_with_the_shrunk_covariance():
    seen = replace(tiny.items(), labels=torch.tensor([0] * 12 + [1] * 8 + [2] * 4))
    result, rows = trained(LDA(views=2, shrinkages=(0.4,)), seen)
    x = (rows.features - rows.features.mean(0)) / rows.features.std(0)
    means = np.stack([x[rows.labels == k].mean(0) for k in range(3)])
    within = (x - means[rows.labels]).T @ (x - means[rows.labels]) / len(x)
    shrunk = 0.6 * within + 0.4 * np.trace(within) / 32 * np.eye(32)
    gaps = x[:, None] - means  # R x K x D
    distances = np.einsum("rkd,de,rke->rk", gaps, np.linalg.inv(shrunk), gaps)
    temperature = result.notes["temperature"]
    joint = (-distances / 2 + np.log([12 / 24, 8 / 24, 4 / 24])) / temperature
    found = log_posterior(scores(result.network, rows.features))
    np.testing.assert_allclose(found, log_posterior(joint), atol=1e-3, rtol=1e-4)
    assert result.notes["shrinkage"] == 0.4


def test_two_classes_differ_by_scikit_learns_decision():
    seen = replace(tiny.items(classes=2), labels=torch.arange(24) % 2)
    result, rows = trained(LDA(views=0, shrinkages=(0.5,)), seen)
    found = scores(result.network, rows.features)
    x = (rows.features - rows.features.mean(0)) / rows.features.std(0)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5).fit(x, rows.labels)
    expected = model.decision_function(x) / result.notes["temperature"]
    np.testing.assert_allclose(found[:, 1] - found[:, 0], expected, atol=1e-3)
    assert (found[:, 2] < found[:, :2].max(1)).all()


@pytest.mark.parametrize("views", [0, 2])
def test_with_one_item_for_each_class_the_nearest_decides(views):
    seen = tiny.items(3)
    result, rows = trained(LDA(views=views), seen)
    found = scores(result.network, rows.features)
    assert np.isfinite(found).all() and (found.argmax(1) == rows.labels).all()
    if not views:
        x = (rows.features - rows.features.mean(0)) / rows.features.std(0)
        distances = np.square(x[:, None] - x).sum(2)
        expected = log_posterior(-distances / 2 / result.notes["temperature"])
        np.testing.assert_allclose(log_posterior(found), expected, atol=1e-3)


def test_a_single_class_is_always_the_answer():
    seen = replace(tiny.items(4), labels=torch.full((4,), 1))
    result, rows = trained(LDA(views=2), seen)
    assert (scores(result.network, rows.features).argmax(1) == 1).all()


def test_items_that_are_all_alike_leave_the_shares():
    seen = tiny.items(4)
    alike = torch.full_like(seen.records, 9)
    seen = replace(seen, records=alike, labels=torch.tensor([0, 0, 0, 1]))
    result, rows = trained(LDA(views=0), seen)
    found = scores(result.network, rows.features)
    odds = np.log(3) / result.notes["temperature"]
    np.testing.assert_allclose(found[:, 0] - found[:, 1], odds, atol=1e-4)


def test_answers_for_new_items_are_not_surer_than_they_are_right():
    """Noise around three means in 40 dimensions, 8 items each: the bare posterior is far too
    sure."""
    rng = np.random.default_rng(0)

    def draw(n):
        labels = np.arange(n) % 3
        return 1.6 * np.eye(3, 40)[labels] + rng.normal(size=(n, 40)), labels

    x, y = draw(24)
    rows = Rows(x, y, np.arange(24).astype(str), 3, 1)
    method = LDA(shrinkages=(0.1,))
    shrinkage, temperature = method._chosen(rows, seed=0)
    scaled, scaling = rows.standardised()
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(scaled.features, y)
    new, truth = draw(3000)
    bare = model.decision_function(scaling(new))

    def loss(scores):
        return -log_posterior(scores)[np.arange(3000), truth].mean()

    assert temperature > 1.5
    assert loss(bare / temperature) < min(loss(bare), np.log(3))
