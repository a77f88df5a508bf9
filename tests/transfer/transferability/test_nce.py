"""NCE against entropies of scikit-learn and SciPy, and against LEEP of a certain head."""

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from transfer.core.errors import CrosstrainError
from transfer.transferability.leep import leep
from transfer.transferability.nce import nce


def draw(seed=0, items=60, heads=5, classes=4):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(heads), items), rng.integers(0, classes, items)


@pytest.mark.parametrize(("heads", "classes"), [(5, 4), (2, 9), (40, 2)])
def test_nce_is_the_mutual_information_less_the_entropy_of_the_labels(heads, classes):
    probabilities, labels = draw(heads=heads, classes=classes)
    mutual_information = mutual_info_score(labels, probabilities.argmax(1))
    assert nce(probabilities, labels) == pytest.approx(
        mutual_information - entropy(np.bincount(labels))
    )


def test_nce_is_leep_of_a_head_that_is_certain():
    probabilities, labels = draw(1)
    certain = np.eye(5)[probabilities.argmax(1)]
    assert nce(probabilities, labels) == pytest.approx(leep(certain, labels))


def test_a_perfect_head_scores_0_and_an_uninformative_one_minus_log_k():
    labels = np.arange(12) % 4
    assert nce(np.eye(7)[6 - labels], labels) == 0
    assert nce(np.full((12, 3), 1 / 3), labels) == pytest.approx(-np.log(4))


def test_only_the_most_probable_class_matters():
    probabilities, labels = draw(2)
    sharper = probabilities**3 / (probabilities**3).sum(1, keepdims=True)
    assert nce(sharper.astype(np.float32), labels) == pytest.approx(nce(probabilities, labels))


def test_arrays_that_are_not_probabilities_are_refused():
    probabilities, labels = draw()
    with pytest.raises(CrosstrainError, match="expected probabilities"):
        nce(probabilities - 0.5, labels)
    with pytest.raises(CrosstrainError, match="of 1 class"):
        nce(probabilities, labels * 0)
