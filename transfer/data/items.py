"""Decoded items, by what may be done with them.

`TrainItems` may be learned from and selected on; `TestItems` may only be evaluated. They are
different types on purpose: nothing that trains or chooses accepts `TestItems`.
Shapes: N items, C channels, H x W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer.data.manifest import Manifest
from transfer.data.splits import split
from transfer.data.splits.duplicates import among, hashes, linked_sets
from transfer.data.storage import item_ids
from transfer.data.storage import tensor_store as images
from transfer.data.storage.item_ids import Keys
from transfer.data.storage.table import PART, Items, numbers
from transfer.data.storage.tensor_store import Images, taken
from transfer.modalities.normalisation import Normalisation

_MEASURED = 1024  # pictures at a time


@dataclass(frozen=True)
class TrainItems:
    """Labelled items to learn from or to select on."""

    images: Images  # N x C x H x W uint8
    labels: Tensor  # N int64
    ids: Keys  # N
    groups: Keys  # N: equal where a fold must not part items: groups and copies

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.bool_]) -> "TrainItems":
        """The items where ``rows`` (N bool) is true."""
        if rows.all():
            return self
        kept = np.flatnonzero(rows)
        labels = self.labels[torch.from_numpy(kept)]
        return TrainItems(taken(self.images, kept), labels, self.ids[rows], self.groups[rows])

    def without(self, groups: Keys) -> "TrainItems":
        """The items of none of these groups."""
        return self.take(~item_ids.among(self.groups, groups))


@dataclass(frozen=True)
class PoolItems:
    """Pictures of the target's training split, labelled or not: there is no label in here."""

    images: Images  # N x C x H x W uint8
    ids: Keys  # N
    groups: Keys  # N

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, groups: Keys) -> "PoolItems":
        """The items of none of these groups."""
        rows = ~item_ids.among(self.groups, groups)
        if rows.all():
            return self
        images = taken(self.images, np.flatnonzero(rows))
        return PoolItems(images, self.ids[rows], self.groups[rows])


@dataclass(frozen=True)
class SourceItems:
    """Labelled items of a source's training split, with its classes and its own statistics."""

    items: TrainItems  # labels index class_names
    class_names: tuple[str, ...]
    normal: Normalisation

    @classmethod
    def of(cls, items: TrainItems, class_names: tuple[str, ...]) -> "SourceItems":
        """Items with their own statistics."""
        return cls(items, class_names, normalisation(items))


def spread(labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Rows of so many items or fewer, in order: of each class alike, whatever their order."""
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[:: max(1, math.ceil(len(labels) / most))])


def union(parts: Sequence[SourceItems]) -> SourceItems:
    """Several datasets as one: classes of one name are one class."""
    if len(parts) == 1:
        return parts[0]
    names = tuple(dict.fromkeys(name for part in parts for name in part.class_names))
    rows = [torch.tensor([names.index(name) for name in part.class_names]) for part in parts]
    kept = [part.items for part in parts]
    items = TrainItems(
        images.cat([one.images for one in kept]),
        torch.cat([row[one.labels] for row, one in zip(rows, kept, strict=True)]),
        item_ids.union([one.ids for one in kept]),
        item_ids.union([one.groups for one in kept]),
    )
    return SourceItems.of(items, names)


@dataclass(frozen=True)
class TestItems:
    """Held-out items: read once per model, by the evaluation alone."""

    images: Images  # N x C x H x W uint8
    labels: Tensor  # N int64
    ids: Keys  # N

    __test__ = False  # not a test case, whatever a test runner thinks of the name


def normalisation(items: TrainItems | PoolItems) -> Normalisation:
    """Measure the items; a constant channel gets a standard deviation of 1/255."""
    counts = torch.zeros(items.images.shape[1], 256, dtype=torch.double)
    for part in items.images.split(_MEASURED):
        for channel, pixels in enumerate(part.transpose(0, 1)):
            counts[channel] += torch.bincount(pixels.flatten(), minlength=256)
    shares, levels = counts / counts.sum(dim=1, keepdim=True), torch.arange(256).double() / 255
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]).square()).sum(dim=1)
    std = variance.sqrt().clamp_min(1 / 255)
    return Normalisation(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


@dataclass(frozen=True)
class _Rows:
    images: Images
    labels: Tensor
    ids: Keys
    groups: Keys

    def to_train(self) -> TrainItems:
        return TrainItems(self.images, self.labels, self.ids, self.groups)


def _rows(scanned: Path, divided: Path, column: str, *values: object) -> _Rows:
    manifest = Manifest.load(scanned)
    table = split.load(divided, manifest)
    rows = np.flatnonzero(table[column].isin(values)).astype(np.int32)
    first = _first_of_set(manifest.items)[rows]
    labels = torch.from_numpy(numbers(manifest.items, "label")[rows].astype(np.int64))
    ids, groups = item_ids.of_ids(manifest.items, rows), item_ids.of_groups(manifest.items, first)
    return _Rows(images.some(scanned, rows), labels, ids, groups)


def _first_of_set(items: Items) -> NDArray[np.int32]:
    """For each item, the row of that one of its set of linked items whose key is smallest.

    So a set has one key whatever the order of the items. Where all of a set have the same, as a
    group without copies has, each item keeps its own row.
    """
    sets, own = linked_sets(items), hashes(items, "key")
    torn = [np.empty(0, np.int32)]
    for start in range(0, len(items), PART):
        first = sets[start : start + PART]
        torn.append(np.unique(first[own[start : start + PART] != own[first]]))
    del own
    rows = np.arange(len(items), dtype=np.int32)
    inside = np.flatnonzero(among(sets, np.unique(np.concatenate(torn))))
    if len(inside):
        key = pd.Series(item_ids.of_groups(items, inside).tolist(), index=inside)
        rows[inside] = key.groupby(sets[inside]).transform("idxmin")
    return rows


def labelled_items(scanned: Path, divided: Path) -> TrainItems:
    """Items whose labels may be learned from.

    Raises:
        DataRefusedError: the split does not belong to the scan.
    """
    return _rows(scanned, divided, "labelled", True).to_train()


def validation_items(scanned: Path, divided: Path) -> TrainItems:
    """Items of the validation split.

    Raises:
        DataRefusedError: the split does not belong to the scan.
    """
    return _rows(scanned, divided, "split", "val").to_train()


def pool_items(scanned: Path, divided: Path, *, with_val: bool) -> PoolItems:
    """Pictures of the training split, without their labels.

    ``with_val`` adds those of the validation split, where nothing is chosen on it.

    Raises:
        DataRefusedError: the split does not belong to the scan.
    """
    rows = _rows(scanned, divided, "split", "train", *(["val"] if with_val else []))
    return PoolItems(rows.images, rows.ids, rows.groups)


def test_items(scanned: Path, divided: Path) -> TestItems:
    """Items of the test split, for the evaluation.

    Raises:
        DataRefusedError: the split does not belong to the scan.
    """
    rows = _rows(scanned, divided, "split", "test")
    return TestItems(rows.images, rows.labels, rows.ids)
