"""SoftmaxCorr against a sum of outer products and SciPy's cosine."""

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.special import softmax

from tests.transfer.selection.validators import toy
from transfer.selection.validators.corr_c import score


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_the_cosine_of_the_class_correlation_matrix_and_the_identity(seed):
    logits = np.random.default_rng(seed).normal(size=(50, 7)) * 3
    shared = sum(np.outer(p, p) for p in softmax(logits, 1)) / 50
    assert score(toy.single_candidate(logits)) == pytest.approx(
        1 - cosine(shared.ravel(), np.eye(7).ravel())
    )


def test_the_score_is_between_one_over_the_root_of_the_classes_and_one():
    assert score(toy.single_candidate(np.zeros((20, 5)))) == pytest.approx(5**-0.5)
    assert score(toy.single_candidate(60 * np.eye(5)[[2] * 20])) == pytest.approx(5**-0.5)
    assert score(toy.single_candidate(60 * np.eye(5))) == pytest.approx(1)


def test_a_good_model_scores_above_a_random_and_a_collapsed_one():
    scores = [score(candidate) for candidate in toy.make_candidates()]
    assert scores[toy.GOOD] > scores[toy.RANDOM] > scores[toy.COLLAPSED]


def test_a_perfect_model_of_imbalanced_classes_scores_lower():
    shares = np.array([0.7, 0.2, 0.1])
    actual = score(toy.single_candidate(60 * np.eye(3)[[0] * 7 + [1] * 2 + [2]]))
    assert actual == pytest.approx(shares.sum() / np.sqrt(3 * (shares**2).sum()))
    assert actual < 0.8
