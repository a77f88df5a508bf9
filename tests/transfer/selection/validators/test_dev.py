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


def ratio(candidate):
    """Weights by minimising the penalised log loss with SciPy."""
    features = np.concatenate([candidate.train_features, candidate.features])
    sign = np.where(np.arange(len(features)) < len(candidate.train_features), -1, 1)
    centre, scale = features.mean(0), features.std(0)
    design = (features - centre) / scale

    def loss(theta):
        margins = sign * (design @ theta[1:] + theta[0])
        return np.logaddexp(0, -margins).mean() + dev.PENALTY / 2 * theta[1:] @ theta[1:]

    theta = minimize(loss, np.zeros(design.shape[1] + 1), tol=1e-10).x
    is_target = expit((candidate.source_features - centre) / scale @ theta[1:] + theta[0])
    return is_target / (1 - is_target) * len(candidate.train_features) / len(candidate.features)


def shifted(is_wrong, shift=1.0, n=4000, seed=0):
    """Source features N(0, 1), target features N(shift, 1); wrong where ``is_wrong`` is true."""
    rng = np.random.default_rng(seed)
    source_features, target_features = rng.normal(size=(n, 1)), rng.normal(size=(n, 1)) + shift
    labels = np.arange(n) % 2
    predicted = np.where(is_wrong(source_features[:, 0]), 1 - labels, labels)
    return toy.single_candidate(
        rng.normal(size=(n, 2)),
        features=target_features,
        source_logits=np.eye(2)[predicted],
        source_labels=labels,
        source_features=source_features,
        train_features=rng.normal(size=(n, 1)),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("trained", [80, 600])
def test_the_risk_is_the_regression_line_of_weighted_loss_on_weight_where_the_weight_is_1(
    seed, trained
):
    for candidate in toy.make_candidates(trained=trained, seed=seed)[:2]:
        weights = ratio(candidate)
        wrong = candidate.source_logits.argmax(1) != candidate.source_labels
        slope, intercept = np.polyfit(weights, weights * wrong, 1)
        assert score(candidate) == pytest.approx(-(slope + intercept), abs=2e-4)


def test_the_error_on_a_shifted_target_is_estimated_where_source_accuracy_fails():
    candidate = shifted(lambda x: x > 1)
    wrong = (candidate.source_logits.argmax(1) != candidate.source_labels).mean()
    assert wrong == pytest.approx(stats.norm.sf(1), abs=0.02)
    assert -score(candidate) == pytest.approx(0.5, abs=0.05)


def test_the_model_that_is_right_near_the_target_is_preferred():
    right_on_target, wrong_on_target = shifted(lambda x: x < -0.9), shifted(lambda x: x > 1.1)
    assert (right_on_target.source_logits.argmax(1) == right_on_target.source_labels).mean() < (
        wrong_on_target.source_logits.argmax(1) == wrong_on_target.source_labels
    ).mean()
    assert score(right_on_target) > score(wrong_on_target)


def test_without_a_shift_the_risk_is_near_the_error_on_the_source():
    candidate = shifted(lambda x: x > 0.5, shift=0.0)
    wrong = (candidate.source_logits.argmax(1) != candidate.source_labels).mean()
    assert -score(candidate) == pytest.approx(wrong, abs=0.02)


def test_a_good_model_scores_above_a_random_and_a_collapsed_one():
    scores = [score(candidate) for candidate in toy.make_candidates()]
    assert scores[toy.GOOD] > max(scores[toy.RANDOM], scores[toy.COLLAPSED])


def test_a_model_without_errors_has_risk_0():
    assert score(shifted(lambda x: x > 99)) == pytest.approx(0, abs=1e-12)


def test_a_model_that_is_always_wrong_has_risk_1():
    assert score(shifted(lambda x: x > -99)) == pytest.approx(-1, abs=1e-9)


@pytest.mark.parametrize("apart", [0.0, 7.0])
def test_equal_weights_leave_the_plain_error_even_where_domains_have_nothing_in_common(apart):
    candidate = toy.make_candidates()[toy.RANDOM]
    flat = {
        "features": np.full((240, 3), apart),
        "source_features": np.zeros((200, 3)),
        "train_features": np.zeros((220, 3)),
    }
    candidate = dataclasses.replace(candidate, **flat)
    wrong = (candidate.source_logits.argmax(1) != candidate.source_labels).mean()
    assert 0.6 < wrong < 0.9
    assert score(candidate) == -wrong
