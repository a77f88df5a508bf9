"""NCE: how much information a source's predicted class gives about the target's label."""

import numpy as np
from numpy.typing import NDArray

from transfer.transferability.feature_matrix import Labels, check_probabilities


def nce(probabilities: NDArray[np.floating], labels: Labels) -> float:
    """Negative conditional entropy -H(Y | Z) in nats, from -log K to 0.

    Tran et al., "Transferability and hardness of supervised classification tasks", ICCV 2019:
    sum_{y, z} P(y, z) log P(y | z) over the target's labels y and source labels z of the same
    items. Target items have no source label, so z is the most probable class by the source's head,
    the first of several when they tie. NCE equals `transfer.transferability.leep` of a head whose
    probabilities are 0 or 1, and is too high in the same way where the head has many classes.

    Args:
        probabilities: (N, Ks) of the source's classes for the target's items.
        labels: (N,) of the target's items.

    Raises:
        CrosstrainError: see `transfer.transferability.feature_matrix.check_probabilities`.
    """
    check_probabilities(probabilities, labels)
    _, row = np.unique(labels, return_inverse=True)
    _, column = np.unique(probabilities.argmax(1), return_inverse=True)
    joint = np.zeros((row.max() + 1, column.max() + 1))
    np.add.at(joint, (row, column), 1)  # K x source classes that occur
    conditional = joint / joint.sum(0)
    return float(np.log(conditional[row, column]).mean())
