"""Raw items of a dataset by id, for models that decode them by their own cards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer.modalities.interface import Modality
from transfer.models.predictor import Predictor


def files(dataset: Path, ids: Sequence[str]) -> list[Path]:
    """The files of a class-folder or manifest-file dataset."""
    root = dataset if dataset.is_dir() else dataset.parent
    return [root / item for item in ids]


def arrays(dataset: Path, ids: Sequence[str], modality: Modality) -> NDArray[Any]:
    """Items (N, ...) of an .npz dataset of a modality; an id ends in ``#row``."""
    with np.load(dataset, allow_pickle=False) as stored:
        rows = [int(item_id.rsplit("#", 1)[1]) for item_id in ids]
        items: NDArray[Any] = stored[modality.array_key][rows]
    return items


def is_arrays(dataset: Path) -> bool:
    """Whether a dataset holds decoded items rather than files."""
    return dataset.suffix.lower() == ".npz"


def predict(
    model: Predictor, dataset: Path, ids: Sequence[str], class_names: Sequence[str]
) -> NDArray[np.float32]:
    """Predict raw items with a model, and order its probabilities by the current classes.

    Args:
        model: decodes the items by its own card.
        dataset: where the items are.
        ids: N ids of the dataset's manifest.
        class_names: K names; a class that the model lacks gets probability 0, and
            the probability of classes that no longer exist is distributed over the others.

    Returns:
        (N, K) probabilities.

    Raises:
        DataRefusedError: an item cannot be decoded.
    """
    if is_arrays(dataset):
        probabilities = model.predict_arrays(arrays(dataset, ids, model.modality))
    else:
        probabilities = model.predict_files(files(dataset, ids))
    ordered = np.zeros((len(ids), len(class_names)), np.float32)
    for column, name in enumerate(class_names):
        if name in model.class_names:
            ordered[:, column] = probabilities[:, model.class_names.index(name)]
    total = ordered.sum(1, keepdims=True)
    even = np.float32(1 / len(class_names))
    return np.divide(ordered, total, out=np.full_like(ordered, even), where=total > 0)
