import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from transfer.core.errors import CrosstrainError
from transfer.metrics import classification


def draw(seed, items=60, classes=5, sharp=1.5):
    """Probabilities and labels; odd seeds leave a class out of the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes - seed % 2, items)
    scores = rng.normal(size=(items, classes))
    scores[np.arange(items), labels] += sharp
    scores = np.exp(2 * scores)
    return scores / scores.sum(1, keepdims=True), labels


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("items", [3, 60, 400])
def test_counted_metrics_equal_scikit_learn(seed, items):
    probabilities, labels = draw(seed, items)
    predicted, all_classes = probabilities.argmax(1), range(5)
    assert classification.accuracy(probabilities, labels) == peer.accuracy_score(labels, predicted)
    assert classification.balanced_accuracy(probabilities, labels) == pytest.approx(
        peer.balanced_accuracy_score(labels, predicted)
    )
    actual = classification.confusion(probabilities, labels)
    assert np.array_equal(actual, peer.confusion_matrix(labels, predicted, labels=all_classes))
    classes = classification.per_class(probabilities, labels)
    expected_rows = peer.precision_recall_fscore_support(
        labels, predicted, labels=all_classes, zero_division=0
    )
    per_class = (classes.precision, classes.recall, classes.f1, classes.support)
    for actual, expected in zip(per_class, expected_rows, strict=True):
        assert actual == pytest.approx(expected)
    macro = classification.macro(probabilities, labels)
    expected_rows = peer.precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    assert (macro.precision, macro.recall, macro.f1) == pytest.approx(expected_rows[:3])


@pytest.mark.parametrize("seed", range(8))
def test_probability_scores_equal_scikit_learn(seed):
    probabilities, labels = draw(seed)
    all_classes = list(range(5))
    expected = peer.log_loss(labels, probabilities, labels=all_classes)
    assert classification.log_loss(probabilities, labels) == pytest.approx(expected)
    expected = peer.brier_score_loss(labels, probabilities, labels=all_classes, scale_by_half=False)
    assert classification.brier(probabilities, labels) == pytest.approx(expected)


def test_log_loss_of_a_certain_mistake_is_finite():
    assert classification.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(
        7 * np.log(10)
    )


def test_single_precision_is_accepted():
    probabilities, labels = draw(1, items=500)
    single = probabilities.astype(np.float32)
    for name in ("accuracy", "log_loss", "brier", "ece"):
        score = getattr(classification, name)
        assert score(single, labels) == pytest.approx(score(probabilities, labels), abs=1e-5)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_ece_equals_a_plain_calculation_where_bins_divide_the_items(bins):
    probabilities, labels = draw(2, items=15 * 16)
    order = np.argsort(probabilities.max(1))
    right = (probabilities.argmax(1) == labels)[order].reshape(bins, -1).mean(1)
    sure = probabilities.max(1)[order].reshape(bins, -1).mean(1)
    assert classification.ece(probabilities, labels, bins=bins) == pytest.approx(
        abs(right - sure).mean()
    )


@settings(deadline=None, max_examples=80)
@given(st.lists(st.sampled_from([0.6, 0.7, 0.8, 0.9, 1.0]), min_size=1, max_size=40), st.data())
def test_bins_hold_every_item_once_whatever_the_order_and_ties(confidence, data):
    confidence = np.array(confidence)
    right = np.array(data.draw(st.lists(st.booleans(), min_size=40, max_size=40)))
    labels = np.where(right[: len(confidence)], 0, 1)
    probabilities = np.stack([confidence, 1 - confidence], 1)
    bins = classification.reliability_bins(probabilities, labels, bins=15)
    assert sum(b.items for b in bins) == len(labels)
    assert len(bins) <= min(15, len(labels))
    assert [b.confidence for b in bins] == sorted(b.confidence for b in bins)
    mean = sum(b.items * b.accuracy for b in bins) / len(labels)
    assert mean == pytest.approx(classification.accuracy(probabilities, labels))
    reverse = slice(None, None, -1)
    reversed_error = classification.ece(probabilities[reverse], labels[reverse])
    assert reversed_error == pytest.approx(classification.ece(probabilities, labels))


def test_ece_of_equal_confidences_is_their_distance_from_the_accuracy():
    probabilities = np.tile([0.8, 0.2], (10, 1))
    labels = np.array([0] * 6 + [1] * 4)
    assert classification.ece(probabilities, labels) == pytest.approx(0.2)
    assert len(classification.reliability_bins(probabilities, labels)) == 1


def test_ece_by_chance_is_what_calibrated_labels_give():
    probabilities, _ = draw(3, items=90)
    rng = np.random.default_rng(1)
    edges = probabilities.cumsum(1)
    errors = []
    for _ in range(400):
        labels = (rng.random((90, 1)) > edges).sum(1).clip(0, 4)
        errors.append(classification.ece(probabilities, labels))
    error = classification.ece_by_chance(probabilities, level=0.9)
    assert error == pytest.approx(np.quantile(errors, 0.9), rel=0.07)


GOOD = np.full((3, 2), 0.5)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (GOOD, [0, 1], r"\(3, 2\).*\(2,\)"),
        (GOOD[0], [0, 1], r"\(2,\)"),
        (GOOD[:0], [], "expected an item or more"),
        (GOOD, [0, 1, 2], "from 0 to 2.*from 0 to 1"),
        (GOOD, [0, 1, -1], "from -1 to 1"),
        (GOOD, [0.0, 1.0, 1.0], "float64 labels"),
        (GOOD * np.nan, [0, 1, 1], "3 of 3 items are NaN"),
        (GOOD * 3, [0, 1, 1], "calibration.softmax"),
        (np.array([[1.5, -0.5]]), [0], "as low as -0.5"),
    ],
)
def test_predictions_and_labels_that_do_not_fit_are_refused(probabilities, labels, message):
    labels = np.array(labels, dtype=None if labels else int)
    for score in (
        classification.accuracy,
        classification.log_loss,
        classification.brier,
        classification.macro,
        classification.ece,
    ):
        with pytest.raises(CrosstrainError, match=message):
            score(probabilities, labels)
