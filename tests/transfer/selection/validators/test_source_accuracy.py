"""Source validation against scikit-learn."""

import dataclasses

import pytest
from sklearn.metrics import accuracy_score

from tests.transfer.selection.validators import toy
from transfer.selection.validators.source_accuracy import score


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_accuracy_of_scikit_learn(seed):
    for seen in toy.pool(seed=seed):
        expected = accuracy_score(seen.source_labels, seen.source_logits.argmax(1))
        assert score(seen) == pytest.approx(expected)


def test_a_good_model_scores_above_a_random_and_a_collapsed_one():
    scores = [score(seen) for seen in toy.pool()]
    assert scores[toy.GOOD] > max(scores[toy.RANDOM], scores[toy.COLLAPSED])


def test_it_does_not_see_a_collapse_on_the_target_as_its_docstring_says():
    good, _, fallen = toy.pool()
    assert score(dataclasses.replace(good, logits=fallen.logits)) == score(good)
