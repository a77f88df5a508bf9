"""Classification metrics of class probabilities, averaged over items.

Shapes: N items, K classes. Probabilities are (N, K) with rows that sum to 1, labels (N,) in
0..K-1. The predicted class is the most probable one, the first of several when they tie.
Every function raises `CrosstrainError` when probabilities and labels do not fit together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transfer.core.config import Section
from transfer.core.errors import CrosstrainError

Floats = NDArray[np.float64]
Probabilities = NDArray[np.floating]
Labels = NDArray[np.int64]

SMALLEST = 1e-7
"""Probabilities are raised to this before a logarithm is taken."""


class ReliabilityBin(Section):
    """Predictions of similar confidence: mean confidence, and share of right predictions."""

    confidence: float
    accuracy: float
    items: int


@dataclass(frozen=True)
class PerClass:
    """Precision, recall, F1 and number of items of each class, each (K,); 0 where undefined."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: NDArray[np.int64]


@dataclass(frozen=True)
class Macro:
    """Means of precision, recall and F1 over classes."""

    precision: float
    recall: float
    f1: float


def check_scores(scores: Probabilities, labels: Labels) -> None:
    """Refuse class scores (N, K) and labels (N,) that do not belong together.

    Raises:
        CrosstrainError: the shapes differ or are empty, a score is not finite, or a label is
            not an integer in 0..K-1.
    """
    if scores.ndim != 2 or labels.ndim != 1 or len(scores) != len(labels):
        raise CrosstrainError(
            f"found predictions of shape {scores.shape} and labels of shape {labels.shape}; "
            "expected (items, classes) and (items,) of the same items"
        )
    if not scores.size:
        raise CrosstrainError(
            f"found predictions of shape {scores.shape}; expected an item or more"
        )
    if not np.isfinite(scores).all():
        rows = int((~np.isfinite(scores)).any(1).sum())
        raise CrosstrainError(
            f"predictions of {rows} of {len(scores)} items are NaN or infinite; expected finite "
            "numbers: look for a diverged training run and lower its learning rate"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise CrosstrainError(
            f"found {labels.dtype} labels from {labels.min()} to {labels.max()}; expected integers "
            f"from 0 to {scores.shape[1] - 1}, one for each column of the predictions"
        )


def check(probabilities: Probabilities, labels: Labels) -> None:
    """Refuse what `check_scores` refuses, and rows that are not a probability distribution.

    Raises:
        CrosstrainError: see `check_scores`; or a row holds a negative number, or its sum differs
            from 1 by more than 0.001.
    """
    check_scores(probabilities, labels)
    deviation = np.abs(probabilities.sum(1, dtype=np.float64) - 1).max()
    if probabilities.min() < 0 or deviation > 1e-3:
        raise CrosstrainError(
            f"found predictions as low as {probabilities.min():.3g} and row sums up to "
            f"{deviation:.3g} away from 1; expected probabilities: apply calibration.softmax to "
            "class scores"
        )


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Share of items whose most probable class is the true one."""
    check(probabilities, labels)
    return float((probabilities.argmax(1) == labels).mean())


def balanced_accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Mean recall over the classes that occur in the labels."""
    classes = per_class(probabilities, labels)
    return float(classes.recall[classes.support > 0].mean())


def confusion(probabilities: Probabilities, labels: Labels) -> NDArray[np.int64]:
    """Count items (K, K): rows are true classes, columns predicted ones."""
    check(probabilities, labels)
    classes = probabilities.shape[1]
    cells = labels * classes + probabilities.argmax(1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def per_class(probabilities: Probabilities, labels: Labels) -> PerClass:
    """Measure each class against the rest."""
    counts = confusion(probabilities, labels)
    hits, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    return PerClass(
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, true),
        f1=_ratio(2 * hits, true + predicted),
        support=true,
    )


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def macro(probabilities: Probabilities, labels: Labels) -> Macro:
    """Average over the classes that occur in the labels or in the predictions.

    A class that occurs in neither is left out. A class that occurs in only one of them counts
    as 0 where its ratio is undefined, as in scikit-learn's ``average="macro", zero_division=0``.
    """
    classes = per_class(probabilities, labels)
    occurs = classes.support > 0
    occurs[probabilities.argmax(1)] = True
    return Macro(
        precision=float(classes.precision[occurs].mean()),
        recall=float(classes.recall[occurs].mean()),
        f1=float(classes.f1[occurs].mean()),
    )


def log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """Mean of -log p(true class) in nats; p is raised to 1e-7 where it is smaller."""
    check(probabilities, labels)
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(true.clip(SMALLEST)).mean())


def brier(probabilities: Probabilities, labels: Labels) -> float:
    """Brier score (1950): squared error summed over classes, mean over items, in 0..2."""
    check(probabilities, labels)
    errors = probabilities.astype(np.float64)
    errors[np.arange(len(labels)), labels] -= 1
    return float((errors**2).sum(1).mean())


def reliability_bins(
    probabilities: Probabilities, labels: Labels, *, bins: int = 15
) -> list[ReliabilityBin]:
    """Group items by the probability of their predicted class, least confident first.

    Bins hold equally many items, except for ties: items of equal confidence share the bin of the
    first of them, so that the order of the items does not matter. Empty bins are left out.

    Args:
        bins: largest number of bins.
    """
    check(probabilities, labels)
    confidence, right = probabilities.max(1).astype(np.float64), probabilities.argmax(1) == labels
    member = _bin_of(confidence, bins)
    items = np.bincount(member)
    sums, hits = np.bincount(member, confidence), np.bincount(member, right)
    return [
        ReliabilityBin(
            confidence=float(sums[b] / items[b]),
            accuracy=float(hits[b] / items[b]),
            items=int(items[b]),
        )
        for b in np.flatnonzero(items)
    ]


def _bin_of(confidence: Floats, bins: int) -> NDArray[np.int64]:
    _, rank, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts  # rank of the first of each group of ties
    return first[rank] * bins // len(confidence)


def ece(probabilities: Probabilities, labels: Labels, *, bins: int = 15) -> float:
    """Expected calibration error of the predicted class.

    sum_b n_b/N |accuracy_b - confidence_b| over the bins of `reliability_bins` (Naeini et al.
    2015; equal mass as in Nixon et al. 2019). Even a calibrated model has an error above 0 by
    chance, and more so when a bin has few items: `ece_by_chance` measures how much.

    Args:
        bins: largest number of bins.
    """
    groups = reliability_bins(probabilities, labels, bins=bins)
    return sum(b.items * abs(b.accuracy - b.confidence) for b in groups) / len(labels)


def ece_by_chance(
    probabilities: Probabilities, *, level: float, bins: int = 15, replicates: int = 500
) -> float:
    """Calibration error that a perfectly calibrated model stays below with probability ``level``.

    Consistency resampling (Bröcker & Smith 2007): each predicted class counts as right with
    its own probability, at random, and the `ece` is computed; this is done ``replicates`` times.
    """
    confidence = probabilities.max(1).astype(np.float64)
    member = _bin_of(confidence, bins)
    rng = np.random.default_rng(0)
    errors = [
        np.abs(np.bincount(member, (rng.random(len(confidence)) < confidence) - confidence)).sum()
        for _ in range(replicates)
    ]
    return float(np.quantile(errors, level) / len(confidence))
