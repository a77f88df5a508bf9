"""Soft neighbourhood density against the whole matrix, and what it takes of memory."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from scipy.special import softmax

from tests.transfer.selection.validators import toy
from transfer.selection.validators import snd
from transfer.selection.validators.snd import score


def whole(logits):
    """From cosine distances of all pairs, each row without its own item."""
    n = len(logits)
    p = softmax(logits, 1)
    near = 1 - cdist(p, p, "cosine")
    others = near[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    return stats.entropy(softmax(others / 0.05, 1).T).mean()


@pytest.mark.parametrize("items", [2, 50, snd.ROWS - 1, snd.ROWS, snd.ROWS + 1, 2 * snd.ROWS + 7])
def test_it_is_the_mean_entropy_of_the_rows_of_the_whole_matrix(items):
    logits = np.random.default_rng(items).normal(size=(items, 6)) * 3
    assert score(toy.alone(logits)) == pytest.approx(whole(logits), abs=1e-9)


def test_equal_clusters_score_the_log_of_the_neighbours_in_each():
    logits = 80 * np.eye(4)[np.arange(400) % 4]
    assert score(toy.alone(logits)) == pytest.approx(np.log(99), abs=1e-5)


def test_dense_clusters_score_above_scattered_items():
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 8
    dense, scattered = toy.say("good", labels, rng, 8), 3 * rng.normal(size=(240, 8))
    assert score(toy.alone(dense)) > score(toy.alone(scattered))


def test_it_loves_collapse_as_its_docstring_says():
    scores = [score(seen) for seen in toy.pool()]
    assert scores[toy.COLLAPSED] > scores[toy.GOOD]
    assert scores[toy.COLLAPSED] == pytest.approx(np.log(239), abs=1e-4)
    assert score(toy.alone(np.zeros((240, 4)))) == pytest.approx(np.log(239))


def test_it_never_holds_the_whole_matrix():
    items = 3000
    seen = toy.alone(np.random.default_rng(0).normal(size=(items, 4)))
    tracemalloc.start()
    score(seen)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.35 * 8 * items**2
