"""LEEP: how well a source's head predicts the target's labels through its own classes."""

import numpy as np
from numpy.typing import NDArray

from transfer.transferability.feature_matrix import Labels, check_probabilities


def leep(probabilities: NDArray[np.floating], labels: Labels) -> float:
    """Log expected empirical prediction: mean of log sum_z P(y_i | z) p_i(z), in nats, at most 0.

    Nguyen et al., "LEEP: a new measure to evaluate transferability of learned representations",
    ICML 2020. p_i(z) is what the source's head gives item i for its class z, and P(y | z) is
    sum_{i: y_i = y} p_i(z) / sum_i p_i(z). P is estimated on the items that are scored, so a
    head of many classes scores higher by chance, up to 0 where every item has a class of its own.

    Args:
        probabilities: (N, Ks) of the source's classes for the target's items.
        labels: (N,) of the target's items.

    Raises:
        CrosstrainError: see `transfer.transferability.feature_matrix.check_probabilities`.
    """
    check_probabilities(probabilities, labels)
    by_source_class = probabilities.astype(np.float64)
    by_source_class = by_source_class[:, by_source_class.any(0)]
    _, row = np.unique(labels, return_inverse=True)
    joint = np.zeros((row.max() + 1, by_source_class.shape[1]))
    np.add.at(joint, row, by_source_class)  # K x Ks
    conditional = joint / joint.sum(0)
    return float(np.log((conditional[row] * by_source_class).sum(1)).mean())
