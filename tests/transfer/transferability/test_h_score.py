"""The H-score against inverses and scikit-learn, and its correction against permutations."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf as peer_ledoit_wolf

from transfer.core.errors import CrosstrainError
from transfer.transferability.h_score import adjusted_h_score, h_score


def draw(seed=0, items=60, width=8, classes=3, signal=1.0):
    """Features of decreasing variance, rotated and off the origin, with separate class means."""
    rng = np.random.default_rng(seed)
    labels = np.arange(items) % classes
    features = rng.normal(size=(items, width)) / np.sqrt(np.arange(1, width + 1))
    features[:, :classes] += signal * np.eye(classes)[labels]
    return features @ np.linalg.qr(rng.normal(size=(width, width)))[0] + 3, labels


def between(features, labels):
    """Covariance of the class means, one item at a time."""
    means = np.array([features[labels == label].mean(0) for label in labels])
    return np.cov(means.T, bias=True)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_plain_score_is_the_trace_of_the_inverse_times_the_covariance_of_means(classes):
    features, labels = draw(classes=classes)
    expected = np.trace(np.linalg.inv(np.cov(features.T, bias=True)) @ between(features, labels))
    assert h_score(features, labels, shrink=False) == pytest.approx(expected)


def test_the_plain_score_is_the_sum_of_generalised_eigenvalues():
    features, labels = draw(seed=1)
    values = np.linalg.eigvals(
        np.linalg.solve(np.cov(features.T, bias=True), between(features, labels))
    )
    assert h_score(features, labels, shrink=False) == pytest.approx(values.real.sum())


@pytest.mark.parametrize(("items", "width"), [(60, 8), (30, 100), (31, 30), (500, 4)])
def test_the_shrunk_score_is_that_of_scikit_learns_covariance(items, width):
    features, labels = draw(items=items, width=width)
    shrunk, share = peer_ledoit_wolf(features)
    expected = (1 - share) * np.trace(np.linalg.solve(shrunk, between(features, labels)))
    assert 0 < share < 1
    assert h_score(features, labels) == pytest.approx(expected)


def test_the_correction_is_the_mean_over_permuted_labels():
    features, labels = draw(items=24, width=40, signal=0.5)
    rng = np.random.default_rng(0)
    chance = np.mean([h_score(features, rng.permutation(labels)) for _ in range(400)])
    expected = (h_score(features, labels) - chance) / (2 - chance)
    assert adjusted_h_score(features, labels) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("width", [8, 60, 300])
def test_on_noise_the_corrected_score_is_0_on_average_at_any_width(width):
    scores = np.array([adjusted_h_score(*draw(seed, width=width, signal=0)) for seed in range(30)])
    assert abs(scores.mean()) < 4 * scores.std() / np.sqrt(30) + 1e-6


def test_without_correction_wide_noise_beats_narrow_signal_and_with_it_it_does_not():
    noise, labels = draw(items=100, width=600, signal=0)
    signal, _ = draw(items=100, width=8, signal=1)
    assert h_score(noise, labels) > h_score(signal, labels)
    assert adjusted_h_score(noise, labels) < adjusted_h_score(signal, labels)


def test_a_plain_score_of_more_features_than_items_is_the_highest_even_for_noise():
    features, labels = draw(items=30, width=50, signal=0)
    assert h_score(features, labels, shrink=False) == pytest.approx(2)


def test_rotating_and_scaling_change_nothing():
    features, labels = draw(items=30, width=40)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(40, 40)))[0]
    for other in (features @ rotation, features * 1e6, features * 1e-6):
        assert h_score(other, labels) == pytest.approx(h_score(features, labels))
        assert adjusted_h_score(other, labels) == pytest.approx(adjusted_h_score(features, labels))


def test_perfect_features_have_the_highest_score():
    labels = np.arange(30) % 3
    features = np.eye(3)[labels]
    assert h_score(features, labels, shrink=False) == pytest.approx(2)
    assert 0.8 < adjusted_h_score(features * [3, 2, 1], labels) <= 1


@pytest.mark.parametrize("score", [h_score, adjusted_h_score])
def test_constant_features_and_single_features_have_a_score(score):
    labels = np.arange(30) % 3
    assert score(np.full((30, 4), 0.1, np.float32), labels) == 0
    assert score(np.full((30, 4), 1e9 + 0.1), labels) == 0
    assert score(labels[:, None] + 0.0, labels) > 0.4


@pytest.mark.parametrize("score", [h_score, adjusted_h_score])
def test_a_class_of_one_item_and_single_precision_are_accepted(score):
    features, labels = draw(items=31, width=40)
    labels[labels == 2] = 1
    labels[5] = 2
    single = features.astype(np.float32)
    assert np.isfinite(score(single, labels))
    assert score(single, labels) == score(single.astype(np.float64), labels)
    assert adjusted_h_score(features, np.arange(31)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("score", [h_score, adjusted_h_score])
def test_what_cannot_be_scored_is_refused(score):
    features, labels = draw()
    with pytest.raises(CrosstrainError, match="of 1 class"):
        score(features, labels * 0)
    with pytest.raises(CrosstrainError, match="float64 labels"):
        score(features, labels + 0.0)
