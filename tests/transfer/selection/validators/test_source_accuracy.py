"""Source validation against scikit-learn."""

import dataclasses

import pytest
from sklearn.metrics import accuracy_score

from tests.transfer.selection.validators import toy
from transfer.selection.validators.source_accuracy import score


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_the_accuracy_of_scikit_learn(seed):
    for candidate in toy.make_candidates(seed=seed):
        expected = accuracy_score(candidate.source_labels, candidate.source_logits.argmax(1))
        assert score(candidate) == pytest.approx(expected)


def test_a_good_model_scores_above_a_random_and_a_collapsed_one():
    scores = [score(candidate) for candidate in toy.make_candidates()]
    assert scores[toy.GOOD] > max(scores[toy.RANDOM], scores[toy.COLLAPSED])


def test_a_collapse_on_the_target_is_not_detected_as_the_docstring_states():
    good, _, collapsed = toy.make_candidates()
    assert score(dataclasses.replace(good, logits=collapsed.logits)) == score(good)
