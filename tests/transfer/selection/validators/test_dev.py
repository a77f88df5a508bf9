"""Deep embedded validation against SciPy, a regression line and a known density ratio."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit

from tests.transfer.selection.validators import toy
from transfer.selection.validators import dev
from transfer.selection.validators.dev import score


def ratio(seen):
    """Weights by minimising the penalised log loss with SciPy."""
    both = np.concatenate([seen.train_features, seen.features])
    sign = np.where(np.arange(len(both)) < len(seen.train_features), -1, 1)
    centre, scale = both.mean(0), both.std(0)
    design = (both - centre) / scale

    def loss(theta):
        margins = sign * (design @ theta[1:] + theta[0])
        return np.logaddexp(0, -margins).mean() + dev.PENALTY / 2 * theta[1:] @ theta[1:]

    theta = minimize(loss, np.zeros(design.shape[1] + 1), tol=1e-10).x
    is_target = expit((seen.source_features - centre) / scale @ theta[1:] + theta[0])
    return is_target / (1 - is_target) * len(seen.train_features) / len(seen.features)


def shifted(error, shift=1.0, n=4000, seed=0):
    """Source features N(0, 1), target features N(shift, 1); wrong where ``error`` holds."""
    rng = np.random.default_rng(seed)
    held, target = rng.normal(size=(n, 1)), rng.normal(size=(n, 1)) + shift
    labels = np.arange(n) % 2
    told = np.where(error(held[:, 0]), 1 - labels, labels)
    return toy.alone(
        rng.normal(size=(n, 2)),
        features=target,
        source_logits=np.eye(2)[told],
        source_labels=labels,
        source_features=held,
        train_features=rng.normal(size=(n, 1)),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("trained", [80, 600])
def test_its_risk_is_the_regression_line_of_weighted_loss_on_weight_where_the_weight_is_1(
    seed, trained
):
    for seen in toy.pool(trained=trained, seed=seed)[:2]:
        weights = ratio(seen)
        wrong = seen.source_logits.argmax(1) != seen.source_labels
        slope, intercept = np.polyfit(weights, weights * wrong, 1)
        assert score(seen) == pytest.approx(-(slope + intercept), abs=2e-4)


def test_it_tells_the_error_on_a_shifted_target_where_source_accuracy_does_not():
    seen = shifted(lambda x: x > 1)
    wrong = (seen.source_logits.argmax(1) != seen.source_labels).mean()
    assert wrong == pytest.approx(stats.norm.sf(1), abs=0.02)
    assert -score(seen) == pytest.approx(0.5, abs=0.05)


def test_it_prefers_the_model_that_is_right_where_the_target_lies():
    right_there, wrong_there = shifted(lambda x: x < -0.9), shifted(lambda x: x > 1.1)
    assert (right_there.source_logits.argmax(1) == right_there.source_labels).mean() < (
        wrong_there.source_logits.argmax(1) == wrong_there.source_labels
    ).mean()
    assert score(right_there) > score(wrong_there)


def test_without_a_shift_it_is_near_the_error_on_the_source():
    seen = shifted(lambda x: x > 0.5, shift=0.0)
    wrong = (seen.source_logits.argmax(1) != seen.source_labels).mean()
    assert -score(seen) == pytest.approx(wrong, abs=0.02)


def test_a_good_model_scores_above_a_random_and_a_collapsed_one():
    scores = [score(seen) for seen in toy.pool()]
    assert scores[toy.GOOD] > max(scores[toy.RANDOM], scores[toy.COLLAPSED])


def test_a_model_that_is_never_wrong_has_no_risk():
    assert score(shifted(lambda x: x > 99)) == pytest.approx(0, abs=1e-12)


def test_a_model_that_is_always_wrong_has_all_the_risk():
    assert score(shifted(lambda x: x > -99)) == pytest.approx(-1, abs=1e-9)


@pytest.mark.parametrize("apart", [0.0, 7.0])
def test_equal_weights_leave_the_plain_error_even_where_domains_have_nothing_in_common(apart):
    seen = toy.pool()[toy.RANDOM]
    flat = {
        "features": np.full((240, 3), apart),
        "source_features": np.zeros((200, 3)),
        "train_features": np.zeros((220, 3)),
    }
    seen = dataclasses.replace(seen, **flat)
    wrong = (seen.source_logits.argmax(1) != seen.source_labels).mean()
    assert 0.6 < wrong < 0.9
    assert score(seen) == -wrong
