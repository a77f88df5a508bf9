"""SoftmaxCorr against outer products summed one by one and SciPy's cosine."""

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.special import softmax

from tests.transfer.selection.validators import toy
from transfer.selection.validators.corr_c import score


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_cosine_of_the_class_correlation_matrix_and_the_identity(seed):
    logits = np.random.default_rng(seed).normal(size=(50, 7)) * 3
    shared = sum(np.outer(p, p) for p in softmax(logits, 1)) / 50
    assert score(toy.alone(logits)) == pytest.approx(1 - cosine(shared.ravel(), np.eye(7).ravel()))


def test_it_runs_from_one_over_the_root_of_the_classes_to_one():
    assert score(toy.alone(np.zeros((20, 5)))) == pytest.approx(5**-0.5)
    assert score(toy.alone(60 * np.eye(5)[[2] * 20])) == pytest.approx(5**-0.5)
    assert score(toy.alone(60 * np.eye(5))) == pytest.approx(1)


def test_a_good_model_scores_above_a_random_and_a_collapsed_one():
    scores = [score(seen) for seen in toy.pool()]
    assert scores[toy.GOOD] > scores[toy.RANDOM] > scores[toy.COLLAPSED]


def test_it_marks_down_a_perfect_model_of_uneven_classes_as_its_docstring_says():
    shares = np.array([0.7, 0.2, 0.1])
    found = score(toy.alone(60 * np.eye(3)[[0] * 7 + [1] * 2 + [2]]))
    assert found == pytest.approx(shares.sum() / np.sqrt(3 * (shares**2).sum()))
    assert found < 0.8
