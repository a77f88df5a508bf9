"""Transferability measures, one a file: how well a source would serve a labelled target.

Each scores a source from what it makes of the target's items, before any training; higher is
better. Shapes: N items, D features, R the rank of the features, Ks classes of the source's head.
"""

import numpy as np
from numpy.typing import NDArray

from transfer.core.errors import CrosstrainError

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def check_features(features: NDArray[np.floating], labels: Labels, what: str = "features") -> None:
    """Refuse features (N, D) and labels (N,) that do not belong together.

    Args:
        what: the features' name in an error.

    Raises:
        CrosstrainError: the shapes differ or are empty, a feature is not finite, the labels are
            no integers or are all of one class.
    """
    if features.ndim != 2 or labels.ndim != 1 or len(features) != len(labels) or not features.size:
        raise CrosstrainError(
            f"found {what} of shape {features.shape} and labels of shape {labels.shape}; "
            f"expected (items, {what}) and (items,) of the same items, one or more"
        )
    if not np.isfinite(features).all():
        rows = int((~np.isfinite(features)).any(1).sum())
        raise CrosstrainError(
            f"{what} of {rows} of {len(features)} items are NaN or infinite; expected finite "
            "numbers: look for a damaged body or inputs that were not normalised"
        )
    if labels.dtype.kind not in "iu" or len(np.unique(labels)) < 2:
        raise CrosstrainError(
            f"found {labels.dtype} labels of {len(np.unique(labels))} class; expected integers of "
            "2 classes or more: label items of another class"
        )


def check_probabilities(probabilities: NDArray[np.floating], labels: Labels) -> None:
    """Refuse probabilities (N, Ks) of a source's classes that do not belong to labels (N,).

    Raises:
        CrosstrainError: what `check_features` refuses, or a row that holds a negative number or
            sums to something more than 0.001 away from 1.
    """
    check_features(probabilities, labels, "probabilities")
    off = np.abs(probabilities.sum(1, dtype=np.float64) - 1).max()
    if probabilities.min() < 0 or off > 1e-3:
        raise CrosstrainError(
            f"found values as low as {probabilities.min():.3g} and rows up to {off:.3g} away from "
            "a sum of 1; expected probabilities: apply calibrate.softmax to the head's scores"
        )


def decompose(features: NDArray[np.floating], *, centre: bool = False) -> tuple[Floats, Floats]:
    """Thin singular value decomposition in double precision, without directions that are rounding.

    Args:
        features: (N, D).
        centre: take the mean of each feature off first.

    Returns:
        Left singular vectors (N, R) and singular values (R,), largest first. R is 0 where nothing
        is left, such as for constant features that are centred.
    """
    matrix = features.astype(np.float64)
    rounding = np.finfo(np.float64).eps * max(matrix.shape) * np.linalg.norm(matrix)
    if centre:
        matrix -= matrix.mean(0)
    left, singular, _ = np.linalg.svd(matrix, full_matrices=False)
    kept = singular > rounding
    return left[:, kept], singular[kept]


def ledoit_wolf(lengths: Floats, squared: float, width: int) -> float:
    """Share a by which to shrink a covariance S: (1 - a) S + a tr(S) / D I.

    Ledoit & Wolf, "A well-conditioned estimator for large-dimensional covariance matrices",
    Journal of Multivariate Analysis 2004: the expected squared error of S over its squared
    distance from the multiple of the identity.

    Args:
        lengths: (N,) squared lengths of the centred items.
        squared: squared Frobenius norm of S.
        width: D.

    Returns:
        0 to 1; 0 where S is a multiple of the identity already.
    """
    distance = squared - lengths.mean() ** 2 / width
    if distance <= 1e-12 * squared:
        return 0.0
    error = ((lengths**2).mean() - squared) / len(lengths)
    return float(np.clip(error / distance, 0, 1))
