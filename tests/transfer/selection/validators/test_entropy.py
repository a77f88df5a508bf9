"""Entropy against SciPy."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from tests.transfer.selection.validators import toy
from transfer.selection.validators.entropy import score


@pytest.mark.parametrize("seed", range(3))
def test_it_is_minus_the_mean_of_scipys_entropies(seed):
    logits = np.random.default_rng(seed).normal(size=(50, 7)) * 4
    assert score(toy.alone(logits)) == pytest.approx(-stats.entropy(softmax(logits, 1).T).mean())


def test_it_runs_from_minus_log_of_the_classes_to_zero():
    assert score(toy.alone(np.zeros((20, 5)))) == pytest.approx(-np.log(5))
    assert score(toy.alone(50 * np.eye(5))) == pytest.approx(0, abs=1e-12)


def test_a_good_model_scores_above_a_random_one():
    scores = [score(seen) for seen in toy.pool()]
    assert scores[toy.GOOD] > scores[toy.RANDOM]


def test_it_loves_collapse_as_its_docstring_says():
    scores = [score(seen) for seen in toy.pool()]
    assert scores[toy.COLLAPSED] > scores[toy.GOOD]
