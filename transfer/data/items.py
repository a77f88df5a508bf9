"""Decoded items, by what may be done with them.

`TrainItems` may be learned from and selected on; `TestItems` may only be evaluated. They are
different types on purpose: nothing that trains or chooses accepts `TestItems`.
Shapes: N items, each with one record of the shape that the specification of the modality decides.
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
from transfer.data.storage import item_ids, tensor_store
from transfer.data.storage.item_ids import Keys
from transfer.data.storage.table import PART, Items, numbers
from transfer.data.storage.tensor_store import Records, taken
from transfer.modalities import lookup
from transfer.modalities.interface import InputSpec
from transfer.modalities.normalisation import Normalisation

_MEASURED = 1024  # records at a time


@dataclass(frozen=True)
class TrainItems:
    """Labelled items to learn from or to select on."""

    records: Records  # N x ..., as stored
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
        return TrainItems(taken(self.records, kept), labels, self.ids[rows], self.groups[rows])

    def without(self, groups: Keys) -> "TrainItems":
        """The items of none of these groups."""
        return self.take(~item_ids.among(self.groups, groups))


@dataclass(frozen=True)
class PoolItems:
    """Items of the target's training split, labelled or not: there is no label in here."""

    records: Records  # N x ..., as stored
    ids: Keys  # N
    groups: Keys  # N

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, groups: Keys) -> "PoolItems":
        """The items of none of these groups."""
        rows = ~item_ids.among(self.groups, groups)
        if rows.all():
            return self
        records = taken(self.records, np.flatnonzero(rows))
        return PoolItems(records, self.ids[rows], self.groups[rows])


@dataclass(frozen=True)
class SourceItems:
    """Labelled items of a source's training split, with its classes and its own statistics."""

    items: TrainItems  # labels index class_names
    class_names: tuple[str, ...]
    normal: Normalisation

    @classmethod
    def of(cls, items: TrainItems, class_names: tuple[str, ...], spec: InputSpec) -> "SourceItems":
        """Items of a specification with their own statistics."""
        return cls(items, class_names, normalisation(items, spec))


def spread(labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Rows of so many items or fewer, in order: of each class alike, whatever their order."""
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[:: max(1, math.ceil(len(labels) / most))])


def union(parts: Sequence[SourceItems], spec: InputSpec) -> SourceItems:
    """Several datasets as one: classes of one name are one class."""
    if len(parts) == 1:
        return parts[0]
    names = tuple(dict.fromkeys(name for part in parts for name in part.class_names))
    rows = [torch.tensor([names.index(name) for name in part.class_names]) for part in parts]
    kept = [part.items for part in parts]
    items = TrainItems(
        tensor_store.cat([one.records for one in kept]),
        torch.cat([row[one.labels] for row, one in zip(rows, kept, strict=True)]),
        item_ids.union([one.ids for one in kept]),
        item_ids.union([one.groups for one in kept]),
    )
    return SourceItems.of(items, names, spec)


@dataclass(frozen=True)
class TestItems:
    """Held-out items: read once per model, by the evaluation alone."""

    records: Records  # N x ..., as stored
    labels: Tensor  # N int64
    ids: Keys  # N

    __test__ = False  # not a test case, whatever a test runner thinks of the name


def normalisation(items: TrainItems | PoolItems, spec: InputSpec) -> Normalisation:
    """Measure the items, as their modality standardises its inputs."""
    return lookup.of(spec).statistics(items.records.split(_MEASURED), spec)


@dataclass(frozen=True)
class _Rows:
    records: Records
    labels: Tensor
    ids: Keys
    groups: Keys

    def to_train(self) -> TrainItems:
        return TrainItems(self.records, self.labels, self.ids, self.groups)


def _rows(scanned: Path, divided: Path, column: str, *values: object) -> _Rows:
    manifest = Manifest.load(scanned)
    table = split.load(divided, manifest)
    rows = np.flatnonzero(table[column].isin(values)).astype(np.int32)
    first = _first_of_set(manifest.items)[rows]
    labels = torch.from_numpy(numbers(manifest.items, "label")[rows].astype(np.int64))
    ids, groups = item_ids.of_ids(manifest.items, rows), item_ids.of_groups(manifest.items, first)
    return _Rows(tensor_store.some(scanned, rows), labels, ids, groups)


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
    """Items of the training split, without their labels.

    ``with_val`` adds those of the validation split, where nothing is chosen on it.

    Raises:
        DataRefusedError: the split does not belong to the scan.
    """
    rows = _rows(scanned, divided, "split", "train", *(["val"] if with_val else []))
    return PoolItems(rows.records, rows.ids, rows.groups)


def test_items(scanned: Path, divided: Path) -> TestItems:
    """Items of the test split, for the evaluation.

    Raises:
        DataRefusedError: the split does not belong to the scan.
    """
    rows = _rows(scanned, divided, "split", "test")
    return TestItems(rows.records, rows.labels, rows.ids)
