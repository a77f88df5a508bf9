"""LEEP against loops, its limits and the inputs it refuses."""

import math

import numpy as np
import pytest

from transfer.core.errors import CrosstrainError
from transfer.transferability.leep import leep


def draw(seed=0, items=40, heads=5, classes=3, sharpness=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(items) % classes
    scores = np.exp(sharpness * rng.normal(size=(items, heads)))
    return scores / scores.sum(1, keepdims=True), labels


def by_loops(probabilities, labels):
    items, heads = probabilities.shape
    total = 0.0
    for i in range(items):
        expected = 0.0
        for z in range(heads):
            joint = sum(probabilities[j, z] for j in range(items) if labels[j] == labels[i])
            expected += joint / sum(probabilities[:, z]) * probabilities[i, z]
        total += math.log(expected)
    return total / items


@pytest.mark.parametrize(("heads", "classes"), [(5, 3), (2, 6), (1, 2), (30, 20)])
def test_leep_equals_loops_over_the_definition(heads, classes):
    probabilities, labels = draw(heads=heads, classes=classes)
    assert leep(probabilities, labels) == pytest.approx(by_loops(probabilities, labels))


def test_a_perfect_head_scores_0_and_an_uninformative_one_minus_the_entropy_of_the_labels():
    labels = np.array([0, 0, 0, 1, 2, 2])
    assert leep(np.eye(4)[labels + 1], labels) == 0
    shares = np.array([3, 1, 2]) / 6
    entropy = -(shares * np.log(shares)).sum()
    assert leep(np.full((6, 9), 1 / 9), labels) == pytest.approx(-entropy)


def test_renaming_source_and_target_classes_changes_nothing():
    probabilities, labels = draw()
    expected = leep(probabilities, labels)
    assert leep(probabilities[:, ::-1], labels) == pytest.approx(expected)
    assert leep(probabilities, 50 - 10 * labels) == pytest.approx(expected)


def test_a_source_class_that_never_gets_any_probability_changes_nothing():
    probabilities, labels = draw()
    wider = np.hstack([probabilities, np.zeros((40, 3))])
    assert leep(wider, labels) == pytest.approx(leep(probabilities, labels))


def test_probabilities_far_below_single_precision_are_accepted():
    labels = np.array([0, 1, 1])
    score = leep(np.array([[1.0, 1e-320], [1.0, 0.0], [0.0, 1.0]]), labels)
    assert score == pytest.approx(2 * math.log(0.5) / 3)


def test_arrays_that_are_not_probabilities_are_refused():
    probabilities, labels = draw()
    with pytest.raises(CrosstrainError, match="expected probabilities"):
        leep(probabilities * 2, labels)
    with pytest.raises(CrosstrainError, match="as low as -0"):
        leep(np.tile([-0.1, 1.1], (40, 1)), labels)
    with pytest.raises(CrosstrainError, match=r"probabilities of shape \(39, 5\)"):
        leep(probabilities[1:], labels)
    with pytest.raises(CrosstrainError, match="of 1 class"):
        leep(probabilities, labels * 0)
