"""The evidence against a direct normal density, its invariances and its limits."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from transfer.core.errors import CrosstrainError
from transfer.transferability.logme import LEAST_NOISE, logme


def draw(seed=0, items=40, width=6, classes=3, signal=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(items) % classes
    features = rng.normal(size=(items, width))
    features[:, : min(width, classes)] += signal * np.eye(classes)[labels][:, :width]
    return features, labels


def density(features, y, ratio, beta):
    """Log p(y) written out: normal, with the covariance (F F' / ratio + I) / beta."""
    covariance = features @ features.T / ratio + np.eye(len(y))
    distance = beta * y @ np.linalg.solve(covariance, y)
    spread = np.linalg.slogdet(covariance)[1] - len(y) * np.log(beta)
    return -(distance + spread + len(y) * np.log(2 * np.pi)) / 2


def by_optimiser(features, labels, label):
    """Maximum of the density per item, from the best points of a grid."""
    y = (labels == label).astype(float)
    unit = np.linalg.norm(features, 2) ** 2

    def cost(point):
        beta = min(np.exp(point[1]), 1 / LEAST_NOISE)
        return -density(features, y, np.exp(np.clip(point[0], -25, 13)) * unit, beta) / len(y)

    grid = [(a, b) for a in range(-24, 14, 2) for b in range(-2, 15)]
    starts = sorted(grid, key=cost)[:6]
    minima = [minimize(cost, start, method="Nelder-Mead").fun for start in starts]
    return -min(minima)


def test_the_density_here_is_scipys():
    features, labels = draw(items=12)
    covariance = (features @ features.T / 3 + np.eye(12)) / 5
    expected = multivariate_normal(cov=covariance).logpdf(labels)
    assert density(features, labels, 3, 5) == pytest.approx(expected)


@pytest.mark.parametrize(("items", "width"), [(40, 6), (25, 40), (24, 24), (30, 1)])
@pytest.mark.parametrize("signal", [0.0, 2.0])
def test_logme_is_the_maximum_of_the_normal_density(items, width, signal):
    features, labels = draw(items=items, width=width, signal=signal)
    expected = np.mean([by_optimiser(features, labels, label) for label in range(3)])
    assert logme(features, labels) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_logme_is_the_highest_of_several_maxima(seed):
    features, labels = draw(seed, items=30, width=4, classes=2, signal=3)
    features = np.maximum(features, 0) * np.geomspace(1, 1e-4, 4)  # one class needs the small ones
    expected = np.mean([by_optimiser(features, labels, label) for label in range(2)])
    assert logme(features, labels) == pytest.approx(expected, abs=1e-5)


def test_rotating_scaling_and_padding_change_nothing():
    features, labels = draw(items=30, width=8)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    padded = np.hstack([features, np.zeros((30, 50))])
    for other in (features @ rotation, features * 1e6, features * 1e-6, padded):
        assert logme(other, labels) == pytest.approx(logme(features, labels), abs=1e-8)


def test_neither_the_order_of_items_nor_the_numbers_of_classes_matter():
    features, labels = draw()
    order = np.random.default_rng(2).permutation(len(labels))
    assert logme(features[order], labels[order]) == pytest.approx(logme(features, labels))
    assert logme(features, 90 - 7 * labels) == pytest.approx(logme(features, labels))


def test_more_signal_is_more_evidence_and_more_noise_dimensions_are_not():
    scores = [logme(*draw(items=200, width=10, signal=signal)) for signal in (0, 1, 2, 4)]
    assert scores == sorted(scores) and scores[-1] > scores[0] + 0.2
    features, labels = draw(items=200, width=10, signal=1)
    noise = np.random.default_rng(3).normal(size=(200, 300))
    assert logme(np.hstack([features, noise]), labels) < logme(features, labels)


def test_features_that_say_nothing_score_as_no_features_do():
    labels = np.arange(40) % 4
    nothing = np.log(1 / (2 * np.pi * 0.25)) / 2 - 0.5  # normal noise of the labels' mean square
    assert logme(np.zeros((40, 3)), labels) == pytest.approx(nothing)
    assert logme(np.full((40, 3), 7.0), labels) > nothing  # a constant is an intercept


def test_perfect_features_have_a_finite_score_above_all_others():
    labels = np.arange(30) % 3
    perfect = logme(np.eye(3)[labels], labels)
    assert np.isfinite(perfect) and perfect > logme(*draw(items=30, signal=10)) + 1


def test_single_precision_is_computed_in_double():
    features, labels = draw()
    single = features.astype(np.float32)
    assert logme(single, labels) == logme(single.astype(np.float64), labels)


def test_a_hundred_classes_one_with_a_single_item():
    features, labels = draw(items=200, width=120, classes=100, signal=3)
    labels[0] = 1  # leaves one item of class 0
    assert np.isfinite(logme(features, labels))


def test_what_cannot_be_scored_is_refused():
    features, labels = draw()
    with pytest.raises(CrosstrainError, match="of 1 class; expected integers of at least 2"):
        logme(features, labels * 0)
    with pytest.raises(CrosstrainError, match=r"shape \(0, 6\)"):
        logme(features[:0], labels[:0])
    with pytest.raises(CrosstrainError, match=r"shape \(39, 6\) and labels of shape \(40,\)"):
        logme(features[1:], labels)
    features[3, 2] = np.nan
    with pytest.raises(CrosstrainError, match="1 of 40 items are NaN"):
        logme(features, labels)
