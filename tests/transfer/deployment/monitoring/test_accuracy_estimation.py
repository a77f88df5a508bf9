"""The estimate is the formula's, its interval covers, and it gains by confidence that tells."""

import numpy as np
import pytest

from transfer.deployment.monitoring.accuracy_estimation import estimate, powered
from transfer.evaluation.comparison import proportion_interval

NONE = np.empty(0)


def drawn(n, more, rng, bias=0.0):
    """Items of an accuracy of 0.8 whose confidence is calibrated, but for a bias."""
    truth = rng.beta(2, 0.5, n + more)
    right = rng.random(n + more) < truth
    confidence = np.clip(truth + bias, 0, 1)
    return right[:n], confidence[:n], confidence[n:]


def test_with_labels_alone_it_is_wilsons_interval():
    found = estimate(np.arange(20) < 17, np.full(20, 0.9), NONE, level=0.95)
    assert (found.kind, found.accuracy, found.labelled, found.unlabelled) == ("labels", 0.85, 20, 0)
    assert (found.low, found.high) == proportion_interval(17, 20, level=0.95)


def test_without_a_label_it_is_the_mean_confidence():
    found = estimate(NONE.astype(bool), NONE, np.array([0.9, 0.7, 0.8]), level=0.9)
    assert found.kind == "confidence" and found.accuracy == pytest.approx(0.8)
    assert found.low < 0.8 < found.high
    assert estimate(NONE.astype(bool), NONE, NONE, level=0.9) is None


def test_it_is_the_formula_of_the_paper():
    right, confidence, more = drawn(40, 300, np.random.default_rng(1))
    y, f = right.astype(float), confidence
    both = np.concatenate([f, more])
    weight = np.mean((y - y.mean()) * (f - f.mean())) / ((1 + 40 / 300) * both.var())
    assert 0 < weight < 1
    found, items = powered(y, f, more)
    assert found == pytest.approx(weight * more.mean() + (y - weight * f).mean())
    assert 40 < items <= 340


@pytest.mark.parametrize("bias", [0.0, -0.3])
@pytest.mark.parametrize(("n", "more"), [(20, 200), (60, 60)])
def test_the_interval_covers_whatever_the_confidence_is_worth(n, more, bias):
    rng = np.random.default_rng(1)
    found = [estimate(*drawn(n, more, rng, bias), level=0.9) for _ in range(800)]
    covered = np.mean([one.low <= 0.8 <= one.high for one in found])
    assert covered > 0.9 - 3 * np.sqrt(0.9 * 0.1 / 800)
    assert abs(np.mean([one.accuracy for one in found]) - 0.8) < 0.01


def test_confidence_that_tells_makes_it_narrower_and_one_that_does_not_harms_little():
    rng = np.random.default_rng(2)
    telling, dumb, alone = [], [], []
    for _ in range(200):
        right, confidence, more = drawn(50, 1000, rng)
        noise = rng.random(1050)
        telling.append(estimate(right, confidence, more, level=0.95))
        dumb.append(estimate(right, noise[:50], noise[50:], level=0.95))
        alone.append(estimate(right, confidence, NONE, level=0.95))
    widths = [np.mean([one.high - one.low for one in told]) for told in (telling, dumb, alone)]
    assert widths[0] < 0.92 * widths[2]
    assert widths[1] == pytest.approx(widths[2], rel=0.04)


def test_it_has_a_width_where_every_labelled_item_is_right():
    right, more = np.ones(30, bool), np.linspace(0.5, 1, 100)
    found = estimate(right, np.linspace(0.5, 1, 30), more, level=0.95)
    assert found.accuracy == 1 and found.high == 1
    assert found.low == pytest.approx(proportion_interval(30, 30, level=0.95)[0])
    same = estimate(right, np.ones(30), np.ones(10), level=0.95)
    assert same.accuracy == 1 and same.low < 1


def test_one_or_two_labels_are_not_tuned_on():
    for n in (1, 2):
        found = estimate(np.arange(n) < 1, np.full(n, 0.9), np.full(50, 0.2), level=0.95)
        assert found.accuracy == 1 / n and found.low < found.high
