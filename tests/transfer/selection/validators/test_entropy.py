"""Entropy against SciPy."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from tests.transfer.selection.validators import toy
from transfer.selection.validators.entropy import score


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_minus_the_mean_of_scipys_entropies(seed):
    logits = np.random.default_rng(seed).normal(size=(50, 7)) * 4
    assert score(toy.single_candidate(logits)) == pytest.approx(
        -stats.entropy(softmax(logits, 1).T).mean()
    )


def test_the_score_is_between_minus_log_of_the_classes_and_zero():
    assert score(toy.single_candidate(np.zeros((20, 5)))) == pytest.approx(-np.log(5))
    assert score(toy.single_candidate(50 * np.eye(5))) == pytest.approx(0, abs=1e-12)


def test_a_good_model_scores_above_a_random_one():
    scores = [score(candidate) for candidate in toy.make_candidates()]
    assert scores[toy.GOOD] > scores[toy.RANDOM]


def test_collapse_is_preferred_as_the_docstring_states():
    scores = [score(candidate) for candidate in toy.make_candidates()]
    assert scores[toy.COLLAPSED] > scores[toy.GOOD]
