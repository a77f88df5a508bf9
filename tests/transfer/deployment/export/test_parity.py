"""An export passes when it is the model, or is shown to lose less than a margin."""

import numpy as np
import pytest

from transfer.deployment.export.parity import parity
from transfer.evaluation.tables import EvaluateSettings

HOW = EvaluateSettings(replicates=400)


def sharp(classes, k=3, share=0.9):
    """Probabilities (N, K) of which the given class has most."""
    probabilities = np.full((len(classes), k), (1 - share) / (k - 1), np.float32)
    probabilities[np.arange(len(classes)), classes] = share
    return probabilities


def case(n, lost=0, won=0):
    """A model that is right of 9 in 10, and an export that loses and wins some items."""
    labels = np.arange(n) % 3
    model = labels.copy()
    model[: n // 10] = (labels[: n // 10] + 1) % 3
    export = model.copy()
    export[:won] = labels[:won]
    if lost:
        export[-lost:] = (labels[-lost:] + 1) % 3
    return sharp(model), sharp(export), labels


def test_the_figures_are_those_of_an_independent_count():
    model, export, labels = case(500, lost=7, won=3)
    found = parity(model, export, labels, HOW)
    assert found.items == 500
    assert found.model_accuracy == pytest.approx((model.argmax(1) == labels).mean()) == 0.9
    assert found.accuracy == pytest.approx((export.argmax(1) == labels).mean())
    assert found.gain.point == pytest.approx(-4 / 500)
    assert found.gain.low < -4 / 500 < found.gain.high
    assert found.agreement == pytest.approx(490 / 500)
    assert found.largest == pytest.approx(0.85)
    assert found.mean == pytest.approx(2 * 0.85 * 10 / 1500, rel=1e-4)


def test_the_interval_is_as_wide_as_discordant_pairs_make_it():
    found = parity(*case(2000, lost=20, won=20), HOW)
    expected = 1.96 * np.sqrt(40) / 2000
    assert found.gain.high - found.gain.point == pytest.approx(expected, rel=0.2)


def test_rounding_is_the_same_model_however_few_items_there_are():
    model, _, labels = case(20)
    found = parity(model, model + np.float32(5e-6), labels, HOW)
    assert found.gain.low < -0.05
    assert found.is_same and found.holds(0.0)


def test_few_items_show_nothing_of_another_model():
    model, _, labels = case(20)
    export = sharp(model.argmax(1), share=0.8)
    found = parity(model, export, labels, HOW)
    assert found.agreement == 1 and not found.is_same
    assert not found.holds(0.01)


def test_many_items_show_that_little_is_lost_and_that_much_is():
    assert parity(*case(3000, lost=3, won=3), HOW).holds(0.01)
    lossy = parity(*case(3000, lost=60), HOW)
    assert not lossy.holds(0.01) and lossy.holds(0.04)
