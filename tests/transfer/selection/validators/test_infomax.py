"""Information maximisation against the mutual information of a joint table."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from tests.transfer.selection.validators import toy
from transfer.selection.validators.infomax import score


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_the_mutual_information_of_item_and_class(seed):
    logits = np.random.default_rng(seed).normal(size=(50, 7)) * 3
    joint = softmax(logits, 1) / 50
    independent = np.outer(joint.sum(1), joint.sum(0))
    divergence = stats.entropy(joint.ravel(), independent.ravel())
    assert score(toy.single_candidate(logits)) == pytest.approx(divergence)


def test_the_score_is_between_zero_and_log_of_the_classes():
    assert score(toy.single_candidate(np.zeros((20, 5)))) == pytest.approx(0, abs=1e-12)
    assert score(toy.single_candidate(60 * np.eye(5))) == pytest.approx(np.log(5))


def test_a_good_model_scores_above_a_random_and_a_collapsed_one():
    scores = [score(candidate) for candidate in toy.make_candidates()]
    assert scores[toy.GOOD] > scores[toy.RANDOM] > scores[toy.COLLAPSED]


def test_a_target_of_one_class_costs_a_good_model_its_score():
    assert score(toy.single_candidate(60 * np.eye(5)[[2] * 30])) == pytest.approx(0, abs=1e-12)
