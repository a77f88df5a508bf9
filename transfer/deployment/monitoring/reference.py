"""A model's outputs for items that it was not trained on: the reference that new data is compared
with.

A network's features of its training items differ from those of new ones, so the reference is
sampled from the test split. It is written when the final model is composed, after all choices, and
is stored in the model's folder. It contains no item.

Shapes: M reference items, N items, D features, K classes, S numbers of a summary.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from heapq import nsmallest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer.core.errors import ModelFileError, NothingToDoError
from transfer.data.items import TestItems
from transfer.models.predictor import Predictor

FILE = "reference.npz"
ITEMS = 500
"""Test items that a reference holds at most."""
WIDTH = 256
"""Features that are kept of an item at most."""
DECIMALS = 6
"""Probabilities are rounded, so that ties stay ties under another machine's rounding."""

NOT_BROKEN = frozenset({"hidden", "no_class_folder", "no_label", "bad_split", "duplicate_path"})
"""Reasons for a reject that do not concern the file itself."""


@dataclass(frozen=True)
class Outputs:
    """A model's outputs for some items."""

    features: NDArray[np.float32]  # N x D
    probabilities: NDArray[np.float32]  # N x K
    summary: NDArray[np.float32]  # N x S: see `Modality.summary`


@dataclass(frozen=True)
class Reference:
    """A model's outputs for held-out items of its target."""

    outputs: Outputs
    usable: int
    """Files of the target's dataset that could be read."""
    rejected: int
    """Those that could not."""
    tested: int
    """Items of the test split, and how many of them the model predicts correctly."""
    right: int


def look(model: Predictor, records: Tensor) -> Outputs:
    """A model's outputs for records (N, ...) that fit its card."""
    probabilities = model.predict_records(records.numpy())
    summary = model.modality.summary(records)
    return Outputs(features(model, records), probabilities.round(DECIMALS), summary)


def features(model: Predictor, records: Tensor) -> NDArray[np.float32]:
    """Features (N, D) of records (N, ...): the inputs of a model's heads.

    They are those of one network of each member, side by side; above 256 they are thinned evenly.
    (A projection that is fitted to the reference, such as its principal components, would make the
    reference unlike new items.)
    """
    parts, modality, spec = [], model.modality, model.card.spec
    with torch.inference_mode():
        scaled = modality.scale(records, spec)
        for (network, *_), member in zip(model.networks, model.card.members, strict=True):
            inputs = modality.to_input(scaled, member.normal, spec)
            parts.append(network.backbone(modality.lay_out(inputs)))
    whole = torch.cat(parts, 1).float()
    kept: NDArray[np.float32] = whole[:, :: -(-whole.shape[1] // WIDTH)].numpy().copy()
    return kept


def make(
    model: Predictor, items: TestItems, *, usable: int, rejected: int, right: int
) -> Reference:
    """Compute the reference from at most 500 test items, sampled by a hash of their ids.

    Args:
        model: the finished model.
        items: the test split.
        usable: files of the target's dataset that could be read.
        rejected: those that could not.
        right: test items that the model predicts correctly.
    """
    records = items.records[torch.from_numpy(drawn(items.ids))]
    parts = [look(model, part) for part in records.split(model.networks[0][0].backbone.chunk)]
    return Reference(joined(parts), usable, rejected, len(items.ids), right)


def drawn(ids: Iterable[str]) -> NDArray[np.int64]:
    """Rows of the test items, by their ids, that a reference holds."""
    hashed = ((hashlib.sha256(id_.encode()).digest(), row) for row, id_ in enumerate(ids))
    rows = sorted(row for _, row in nsmallest(ITEMS, hashed))
    return np.array(rows, dtype=np.int64)


def broken(reasons: Iterable[str]) -> int:
    """How many of these rejects are files that cannot be used whatever their label."""
    return sum(reason not in NOT_BROKEN for reason in reasons)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of several batches as one."""
    names = [field.name for field in fields(Outputs)]
    return Outputs(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def save(reference: Reference, folder: Path) -> None:
    """Write ``reference.npz`` into a model folder."""
    counts = [reference.usable, reference.rejected, reference.tested, reference.right]
    np.savez(folder / FILE, counts=np.array(counts), **vars(reference.outputs))


def load(folder: Path) -> Reference:
    """Read what `save` wrote.

    Raises:
        NothingToDoError: the model was made before models had a reference.
        ModelFileError: the file is damaged or of another version.
    """
    path = folder / FILE
    if not path.exists():
        raise NothingToDoError(
            f"the model in {folder} has no {FILE}: it was made by an older version and cannot be "
            "monitored; make a new one with `crosstrain retrain`"
        )
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, Any] = {name: stored[name] for name in stored.files}
        usable, rejected, tested, right = arrays.pop("counts").tolist()
        outputs = Outputs(**arrays)
    except Exception as error:  # a damaged archive makes zlib, zipfile and NumPy raise anything
        raise ModelFileError(
            f"{path} is no readable reference ({error}); restore the model, or make a new one "
            "with `crosstrain retrain`"
        ) from error
    if len({len(array) for array in vars(outputs).values()}) != 1 or not len(outputs.features):
        raise ModelFileError(f"{path} holds arrays of different lengths, or none; retrain")
    return Reference(outputs, usable, rejected, tested, right)
