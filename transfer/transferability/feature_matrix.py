"""What all measures start from: features (N, D) with labels (N,), checked and decomposed.

Shapes: N items, D features, R the rank of the features, Ks classes of the source's head.
"""

import numpy as np
from numpy.typing import NDArray

from transfer.core.errors import CrosstrainError

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def check_features(features: NDArray[np.floating], labels: Labels, what: str = "features") -> None:
    """Refuse features (N, D) and labels (N,) that do not belong together.

    Args:
        what: name of the array in an error message.

    Raises:
        CrosstrainError: the shapes differ or are empty, a feature is not finite, the labels are
            not integers, or all labels are of one class.
    """
    if features.ndim != 2 or labels.ndim != 1 or len(features) != len(labels) or not features.size:
        raise CrosstrainError(
            f"found {what} of shape {features.shape} and labels of shape {labels.shape}; "
            f"expected (items, {what}) and (items,) of the same items, at least one item"
        )
    if not np.isfinite(features).all():
        rows = int((~np.isfinite(features)).any(1).sum())
        raise CrosstrainError(
            f"{what} of {rows} of {len(features)} items are NaN or infinite; expected finite "
            "numbers: look for a damaged backbone or inputs that were not normalised"
        )
    if labels.dtype.kind not in "iu" or len(np.unique(labels)) < 2:
        raise CrosstrainError(
            f"found {labels.dtype} labels of {len(np.unique(labels))} class; expected integers of "
            "at least 2 classes: label items of another class"
        )


def check_probabilities(probabilities: NDArray[np.floating], labels: Labels) -> None:
    """Refuse probabilities (N, Ks) of a source's classes that do not belong to labels (N,).

    Raises:
        CrosstrainError: what `check_features` refuses, or a row holds a negative number, or its
            sum differs from 1 by more than 0.001.
    """
    check_features(probabilities, labels, "probabilities")
    deviation = np.abs(probabilities.sum(1, dtype=np.float64) - 1).max()
    if probabilities.min() < 0 or deviation > 1e-3:
        raise CrosstrainError(
            f"found values as low as {probabilities.min():.3g} and row sums up to "
            f"{deviation:.3g} away from 1; expected probabilities: apply calibration.softmax to "
            "the head's scores"
        )


def decompose(features: NDArray[np.floating], *, centre: bool = False) -> tuple[Floats, Floats]:
    """Thin singular value decomposition in double precision, without directions of rounding error.

    Args:
        features: (N, D).
        centre: subtract the mean of each feature first.

    Returns:
        Left singular vectors (N, R) and singular values (R,), largest first. R is 0 where no
        direction remains, for example for constant features that are centred.
    """
    matrix = features.astype(np.float64)
    rounding = np.finfo(np.float64).eps * max(matrix.shape) * np.linalg.norm(matrix)
    if centre:
        matrix -= matrix.mean(0)
    left, singular, _ = np.linalg.svd(matrix, full_matrices=False)
    kept = singular > rounding
    return left[:, kept], singular[kept]


def ledoit_wolf(lengths: Floats, squared: float, width: int) -> float:
    """Shrinkage intensity a of a covariance S: (1 - a) S + a tr(S) / D I.

    Ledoit & Wolf, "A well-conditioned estimator for large-dimensional covariance matrices",
    Journal of Multivariate Analysis 2004: the expected squared error of S over its squared
    distance from the multiple of the identity.

    Args:
        lengths: (N,) squared lengths of the centred items.
        squared: squared Frobenius norm of S.
        width: D.

    Returns:
        0 to 1; 0 where S is already a multiple of the identity.
    """
    distance = squared - lengths.mean() ** 2 / width
    if distance <= 1e-12 * squared:
        return 0.0
    error = ((lengths**2).mean() - squared) / len(lengths)
    return float(np.clip(error / distance, 0, 1))
