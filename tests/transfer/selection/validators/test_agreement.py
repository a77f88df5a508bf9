"""EnsV against votes counted item by item."""

import numpy as np
import pytest

from tests.transfer.selection.validators import toy
from transfer.selection.validators.agreement import score

MANY = ("good", "good", "good", "random", "collapsed")


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_the_share_of_items_with_the_most_probable_class_of_all(seed):
    for candidate in toy.make_candidates(MANY, items=60, seed=seed):
        agreeing = 0
        for i, row in enumerate(candidate.logits):
            total = {c: sum(peer[i][c] for peer in candidate.peers) for c in range(toy.CLASSES)}
            agreeing += int(np.argmax(row)) == max(total, key=total.get)
        assert score(candidate) == pytest.approx(agreeing / 60)


def test_good_models_among_many_score_above_a_random_and_a_collapsed_one():
    scores = [score(candidate) for candidate in toy.make_candidates(MANY)]
    assert min(scores[:3]) > 0.9 > max(scores[3:])


def test_a_single_candidate_scores_1():
    assert score(toy.make_candidates(("random",))[0]) == 1


def test_a_confident_minority_can_outweigh_hesitant_votes():
    peers = np.array([[[0.6, 0.4]], [[0.6, 0.4]], [[0.0, 1.0]]])
    assert score(toy.single_candidate([[1.0, 0.0]], peers=peers)) == 0
    assert score(toy.single_candidate([[0.0, 9.0]], peers=peers)) == 1


def test_collapse_is_preferred_where_most_collapse_to_the_same_class():
    scores = [
        score(candidate) for candidate in toy.make_candidates(("good", "collapsed", "collapsed"))
    ]
    assert scores[0] < min(scores[1:])
