import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.special import softmax as peer_softmax

from transfer.core.errors import CrosstrainError
from transfer.metrics import calibration


def draw(seed, items=2000, classes=4, scale=3.0):
    """Logits that are ``scale`` times too large for their labels."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(items, classes)) * 1.5
    gumbel = rng.gumbel(size=(items, classes))
    return scores * scale, (scores + gumbel).argmax(1)


def nll(logits, labels, scale):
    return -log_softmax(logits / scale, axis=1)[np.arange(len(labels)), labels].mean()


def test_softmax_equals_scipy_and_does_not_overflow():
    scores = np.array([[1e4, -1e4, 0], [3, 1, 2], [-1e30, -1e30, -1e30]])
    assert calibration.softmax(scores) == pytest.approx(peer_softmax(scores, axis=1))
    stacked = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    assert calibration.softmax(stacked) == pytest.approx(peer_softmax(stacked, axis=2), rel=1e-6)


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0, 15.0])
@pytest.mark.parametrize("items", [30, 2000])
def test_temperature_is_the_best_of_a_grid(scale, items):
    logits, labels = draw(1, items=items, scale=scale)
    grid = np.geomspace(0.05, 20, 1201)
    costs = [nll(logits, labels, t) + np.log(t) ** 2 / (8 * items) for t in grid]
    temperature = calibration.fit_temperature(logits, labels)
    assert temperature == pytest.approx(grid[np.argmin(costs)], rel=0.004)


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_with_many_items_the_temperature_is_the_maximum_of_the_likelihood_near_the_truth(scale):
    logits, labels = draw(2, scale=scale)
    grid = np.geomspace(0.05, 20, 1201)
    plain = grid[np.argmin([nll(logits, labels, t) for t in grid])]
    temperature = calibration.fit_temperature(logits.astype(np.float32), labels)
    assert temperature == pytest.approx(plain, rel=0.01)
    assert temperature == pytest.approx(scale, rel=0.1)


def test_a_small_set_without_a_mistake_does_not_make_the_model_certain():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 50)
    logits = rng.normal(size=(50, 3))
    logits[np.arange(50), labels] += 8
    temperature = calibration.fit_temperature(logits, labels)
    assert 0.3 < temperature <= 1
    assert calibration.fit_temperature(logits * 1e3, labels) == pytest.approx(1, abs=0.01)


def test_temperature_stays_in_its_range_when_every_item_is_wrong():
    logits = np.tile([50.0, 0.0], (500, 1))
    assert 10 < calibration.fit_temperature(logits, np.ones(500, int)) <= 20


def test_logits_and_labels_that_do_not_fit_are_refused():
    with pytest.raises(CrosstrainError, match="NaN"):
        calibration.fit_temperature(np.array([[np.nan, 1.0]]), np.array([0]))
    with pytest.raises(CrosstrainError, match="from 2 to 2"):
        calibration.fit_temperature(np.zeros((1, 2)), np.array([2]))
