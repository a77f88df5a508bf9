"""H-score: distance between the class means of the features, relative to their spread."""

import numpy as np
from numpy.typing import NDArray

from transfer.transferability.feature_matrix import (
    Floats,
    Labels,
    check_features,
    decompose,
    ledoit_wolf,
)


def h_score(features: NDArray[np.floating], labels: Labels, *, shrink: bool = True) -> float:
    """tr(cov(f)^-1 cov(E[f | y])), from 0 to K - 1 for labels of K classes.

    Bao et al., "An information-theoretic approach to transferability in task transfer learning",
    ICIP 2019. The covariance is shrunk as by Ibrahim et al., "Newer is not always better:
    rethinking transferability metrics, their peculiarities, stability and performance", ECML PKDD
    2022: (1 - a) tr(((1 - a) cov(f) + a tr(cov(f)) / D I)^-1 cov(E[f | y])), a from
    `transfer.transferability.feature_matrix.ledoit_wolf`. Shrinkage brings the score to 0 where the
    variance is equal in all directions, as for whitened features.

    The score grows with D even for uninformative features: without shrinkage it is K - 1 for all
    features of full rank with D >= N - 1, and shrinkage only weakens this effect. So it can only
    compare sources of the same D; use `adjusted_h_score` for others.

    Args:
        features: (N, D) of the target's items.
        labels: (N,) of these items.
        shrink: False gives the plain score, by the pseudo-inverse of a singular covariance.

    Raises:
        CrosstrainError: see `transfer.transferability.feature_matrix.check_features`.
    """
    kept, between = _directions(features, labels, shrink)
    return float(kept @ between)


def adjusted_h_score(features: NDArray[np.floating], labels: Labels) -> float:
    """Shrunk H-score corrected for chance, (H - E) / (K - 1 - E): at most 1, and 0 on average
    for uninformative features, for every D.

    E is the mean of H over all permutations of the labels. By chance, the share
    (K - 1) / (N - 1) of the variance of a direction lies between the classes, so E is this share
    times the trace of the covariance over the shrunk covariance. Where E is K - 1, as with
    D >= N - 1 and no shrinkage, the score is undefined and 0 is returned.

    Args:
        features: (N, D) of the target's items.
        labels: (N,) of these items.

    Raises:
        CrosstrainError: see `transfer.transferability.feature_matrix.check_features`.
    """
    kept, between = _directions(features, labels, True)
    most = len(np.unique(labels)) - 1
    by_chance = most * kept.sum() / (len(labels) - 1)
    room = most - by_chance
    return float((kept @ between - by_chance) / room) if room > 1e-9 * most else 0.0


def _directions(
    features: NDArray[np.floating], labels: Labels, shrink: bool
) -> tuple[Floats, Floats]:
    """For each principal direction (R,): the share that shrinkage keeps, and the share between
    classes."""
    check_features(features, labels)
    vectors, singular = decompose(features, centre=True)
    variances, width = singular**2 / len(labels), features.shape[1]
    share = ledoit_wolf(vectors**2 @ singular**2, (variances**2).sum(), width) if shrink else 0.0
    ridge = share * variances.sum() / width
    kept = (1 - share) * variances / ((1 - share) * variances + ridge)
    one_hot = np.equal.outer(np.unique(labels), labels).astype(np.float64)  # K x N
    return kept, ((one_hot @ vectors) ** 2 / one_hot.sum(1)[:, None]).sum(0)
