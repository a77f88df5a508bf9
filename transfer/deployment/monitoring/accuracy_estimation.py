"""Estimates of a model's accuracy on new data in which few items, or none, have a label.

Shapes: n labelled items, N unlabelled ones.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transfer.core.config import Section
from transfer.evaluation.comparison import proportion_interval

Numbers = NDArray[np.floating]
Kind = Literal["labels", "labels and confidence", "confidence"]


class Estimate(Section):
    """An accuracy with its interval, in 0..1."""

    kind: Kind
    """The data it is based on. ``confidence`` alone is valid only without drift."""
    accuracy: float
    low: float
    high: float
    labelled: int
    unlabelled: int
    """Items of each kind that it is based on."""


def estimate(
    right: NDArray[np.bool_], confidence: Numbers, unlabelled: Numbers, *, level: float
) -> Estimate | None:
    """Estimate the accuracy on the population that all items are drawn from.

    Args:
        right: (n,) whether the model's prediction for a labelled item is right.
        confidence: (n,) calibrated probability of the class it predicts for it.
        unlabelled: (N,) the same of the items without a label.
        level: of the interval.

    Returns:
        None if there is no item. Without unlabelled items, the share that is right and its
        Wilson interval; without labelled ones, the mean confidence and the interval of a share of
        as many items (which holds if the confidence is calibrated: the variance of being right,
        c (1 - c) on average, and that of c add up to it); with both, see `powered`.
    """
    n, more = len(right), len(unlabelled)
    if not n and not more:
        return None
    if not more:
        return _wilson("labels", float(right.mean()), n, level, n, 0)
    if not n:
        return _wilson("confidence", float(unlabelled.mean()), more, level, 0, more)
    accuracy, items = powered(right.astype(np.float64), confidence, unlabelled)
    return _wilson("labels and confidence", accuracy, items, level, n, more)


def powered(right: Numbers, confidence: Numbers, unlabelled: Numbers) -> tuple[float, float]:
    """Prediction-powered estimate of a mean, with the weight of the predictions tuned.

    Angelopoulos, Duchi and Zrnic, "PPI++: efficient prediction-powered inference" (2023):
    mean(right) + w (mean(unlabelled) - mean(confidence)), with w in 0..1 the covariance of right
    and confidence over (1 + n / N) times the variance of confidence. It is unbiased however bad the
    confidence is, if the labelled items are a random sample of all.

    Its normal interval has width 0 if every labelled item is right, and is too narrow near that
    value. So the variance is converted to the number of labelled items with as much information,
    between n and n + N, for a Wilson interval.

    Args:
        right: (n,) 0 or 1.
        confidence: (n,) predictions of ``right``.
        unlabelled: (N,) predictions of items without a label.

    Returns:
        The estimate, and that number of items.
    """
    n, more = len(right), len(unlabelled)
    if n < 3:  # too few to tune a weight
        return float(right.mean()), float(n)
    spread = np.concatenate([confidence, unlabelled]).var(dtype=np.float64)
    shared = np.cov(right, confidence, bias=True)[0, 1] if spread > 0 else 0.0
    weight = float(np.clip(shared / ((1 + n / more) * spread), 0, 1)) if spread > 0 else 0.0
    mean = right.mean() + weight * (unlabelled.mean() - confidence.mean())
    plain = right.var(ddof=1) / n
    error = (right - weight * confidence).var(ddof=2) / n  # the weight is estimated, too
    error += weight**2 * unlabelled.var(dtype=np.float64) / more
    gain = plain / error if error > 0 else 1.0
    return float(np.clip(mean, 0, 1)), float(n * np.clip(gain, 1, 1 + more / n))


def _wilson(
    kind: Kind, share: float, items: float, level: float, labelled: int, unlabelled: int
) -> Estimate:
    low, high = proportion_interval(share * items, items, level=level)
    return Estimate(
        kind=kind, accuracy=share, low=low, high=high, labelled=labelled, unlabelled=unlabelled
    )
