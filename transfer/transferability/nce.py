"""NCE: how much a source's predicted class tells about the target's label."""

import numpy as np
from numpy.typing import NDArray

from transfer.transferability import Labels, check_probabilities


def nce(probabilities: NDArray[np.floating], labels: Labels) -> float:
    """Negative conditional entropy -H(Y | Z) in nats, from -log K to 0.

    Tran et al., "Transferability and hardness of supervised classification tasks", ICCV 2019:
    sum_{y, z} P(y, z) log P(y | z) over the target's labels y and source labels z of the same
    items. Target items have no source label, so z is the class that the source's head finds most
    probable, the first of several. It is `transfer.transferability.leep` of a head that is certain,
    and as optimistic where the head has many classes.

    Args:
        probabilities: (N, Ks) of the source's classes for the target's items.
        labels: (N,) of the target's items.

    Raises:
        CrosstrainError: see `transfer.transferability.check_probabilities`.
    """
    check_probabilities(probabilities, labels)
    _, row = np.unique(labels, return_inverse=True)
    _, column = np.unique(probabilities.argmax(1), return_inverse=True)
    together = np.zeros((row.max() + 1, column.max() + 1))
    np.add.at(together, (row, column), 1)  # K x source classes that occur
    conditional = together / together.sum(0)
    return float(np.log(conditional[row, column]).mean())
