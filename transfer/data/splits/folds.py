"""Cross-validation folds within the labelled items."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def assign(
    labels: NDArray[np.int64], groups: Sequence[str], folds: int, seed: int
) -> NDArray[np.int64]:
    """Assign every item to a fold; classes are spread evenly and a group stays in one fold.

    Groups are ordered by a hash of seed and name and assigned to the folds in turn, class by
    class, so the assignment does not depend on the order of the items. A group with several
    classes counts for the lowest class number.

    Args:
        labels: (N,) class of each item.
        groups: (N,) key of each item; equal keys share a fold.
        folds: number of folds, at least 2.
        seed: random seed of the assignment.

    Returns:
        (N,) fold of each item, 0 to folds - 1.
    """
    rank = {g: hashlib.blake2b(f"{seed}:{g}".encode()).hexdigest() for g in set(groups)}
    fold_of: dict[str, int] = {}
    next_fold = seed
    for label in np.unique(labels):
        members = {groups[i] for i in np.flatnonzero(labels == label).tolist()} - fold_of.keys()
        for group in sorted(members, key=rank.__getitem__):
            fold_of[group] = next_fold % folds
            next_fold += 1
    return np.array([fold_of[g] for g in groups], dtype=np.int64)
