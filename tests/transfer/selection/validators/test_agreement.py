"""EnsV against votes counted one by one."""

import numpy as np
import pytest

from tests.transfer.selection.validators import toy
from transfer.selection.validators.agreement import score

MANY = ("good", "good", "good", "random", "collapsed")


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_share_of_items_whose_most_probable_class_is_that_of_all(seed):
    for seen in toy.pool(MANY, items=60, seed=seed):
        same = 0
        for i, row in enumerate(seen.logits):
            total = {c: sum(peer[i][c] for peer in seen.peers) for c in range(toy.CLASSES)}
            same += int(np.argmax(row)) == max(total, key=total.get)
        assert score(seen) == pytest.approx(same / 60)


def test_good_models_among_many_score_above_a_random_and_a_collapsed_one():
    scores = [score(seen) for seen in toy.pool(MANY)]
    assert min(scores[:3]) > 0.9 > max(scores[3:])


def test_a_model_alone_agrees_with_itself():
    assert score(toy.pool(("random",))[0]) == 1


def test_a_confident_minority_can_outweigh_hesitant_votes():
    peers = np.array([[[0.6, 0.4]], [[0.6, 0.4]], [[0.0, 1.0]]])
    assert score(toy.alone([[1.0, 0.0]], peers=peers)) == 0
    assert score(toy.alone([[0.0, 9.0]], peers=peers)) == 1


def test_it_prefers_collapse_where_most_collapse_alike_as_its_docstring_says():
    scores = [score(seen) for seen in toy.pool(("good", "collapsed", "collapsed"))]
    assert scores[0] < min(scores[1:])
