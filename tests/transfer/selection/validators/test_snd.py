"""Soft neighbourhood density against the whole matrix, and its use of memory."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from scipy.special import softmax

from tests.transfer.selection.validators import toy
from transfer.selection.validators import snd
from transfer.selection.validators.snd import score


def from_whole_matrix(logits):
    """The score from cosine distances of all pairs, each row without its own item."""
    n = len(logits)
    p = softmax(logits, 1)
    similarity = 1 - cdist(p, p, "cosine")
    others = similarity[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    return stats.entropy(softmax(others / 0.05, 1).T).mean()


@pytest.mark.parametrize("items", [2, 50, snd.ROWS - 1, snd.ROWS, snd.ROWS + 1, 2 * snd.ROWS + 7])
def test_the_score_is_the_mean_entropy_of_the_rows_of_the_whole_matrix(items):
    logits = np.random.default_rng(items).normal(size=(items, 6)) * 3
    assert score(toy.single_candidate(logits)) == pytest.approx(from_whole_matrix(logits), abs=1e-9)


def test_equal_clusters_score_the_log_of_the_neighbours_in_each():
    logits = 80 * np.eye(4)[np.arange(400) % 4]
    assert score(toy.single_candidate(logits)) == pytest.approx(np.log(99), abs=1e-5)


def test_dense_clusters_score_above_scattered_items():
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 8
    dense, scattered = toy.make_logits("good", labels, rng, 8), 3 * rng.normal(size=(240, 8))
    assert score(toy.single_candidate(dense)) > score(toy.single_candidate(scattered))


def test_collapse_is_preferred_as_the_docstring_states():
    scores = [score(candidate) for candidate in toy.make_candidates()]
    assert scores[toy.COLLAPSED] > scores[toy.GOOD]
    assert scores[toy.COLLAPSED] == pytest.approx(np.log(239), abs=1e-4)
    assert score(toy.single_candidate(np.zeros((240, 4)))) == pytest.approx(np.log(239))


def test_the_whole_matrix_is_never_in_memory():
    items = 3000
    candidate = toy.single_candidate(np.random.default_rng(0).normal(size=(items, 4)))
    tracemalloc.start()
    score(candidate)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.35 * 8 * items**2
