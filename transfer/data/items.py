"""Decoded items, in one type for each permitted use.

`TrainItems` may be used for training and selection; `TestItems` only for evaluation. They are
different types on purpose: no function that trains or selects accepts `TestItems`.

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
    """Labelled items for training or selection."""

    records: Records  # N x ..., as stored
    labels: Tensor  # N int64
    ids: Keys  # N
    groups: Keys  # N: equal for items that a fold must not separate: groups and copies

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
        """The items that are in none of these groups."""
        return self.take(~item_ids.among(self.groups, groups))


@dataclass(frozen=True)
class PoolItems:
    """Items of the target's training split, labelled or not, without their labels."""

    records: Records  # N x ..., as stored
    ids: Keys  # N
    groups: Keys  # N

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, groups: Keys) -> "PoolItems":
        """The items that are in none of these groups."""
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
        """Labelled items together with their own statistics."""
        return cls(items, class_names, normalisation(items, spec))


def spread(labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Rows (in ascending order) of at most ``most`` items, taken evenly from each class."""
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[:: max(1, math.ceil(len(labels) / most))])


def union(parts: Sequence[SourceItems], spec: InputSpec) -> SourceItems:
    """Several datasets as one: classes with the same name become one class."""
    if len(parts) == 1:
        return parts[0]
    names = tuple(dict.fromkeys(name for part in parts for name in part.class_names))
    rows = [torch.tensor([names.index(name) for name in part.class_names]) for part in parts]
    kept = [part.items for part in parts]
    items = TrainItems(
        tensor_store.cat([part.records for part in kept]),
        torch.cat([row[part.labels] for row, part in zip(rows, kept, strict=True)]),
        item_ids.union([part.ids for part in kept]),
        item_ids.union([part.groups for part in kept]),
    )
    return SourceItems.of(items, names, spec)


@dataclass(frozen=True)
class TestItems:
    """Held-out items: read once per model, only by the evaluation."""

    records: Records  # N x ..., as stored
    labels: Tensor  # N int64
    ids: Keys  # N

    __test__ = False  # the name begins with Test, but this is no test for pytest to collect


def normalisation(items: TrainItems | PoolItems, spec: InputSpec) -> Normalisation:
    """Measure the statistics with which the items' modality standardises its inputs."""
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
    """For each item, the row of the item with the smallest key in its set of linked items.

    So the key of a set does not depend on the order of the items. Where all items of a set have the
    same key, as in a group without copies, each item keeps its own row.
    """
    sets, keys = linked_sets(items), hashes(items, "key")
    mixed = [np.empty(0, np.int32)]  # sets whose items have different keys
    for start in range(0, len(items), PART):
        first = sets[start : start + PART]
        mixed.append(np.unique(first[keys[start : start + PART] != keys[first]]))
    del keys
    rows = np.arange(len(items), dtype=np.int32)
    inside = np.flatnonzero(among(sets, np.unique(np.concatenate(mixed))))
    if len(inside):
        key = pd.Series(item_ids.of_groups(items, inside).tolist(), index=inside)
        rows[inside] = key.groupby(sets[inside]).transform("idxmin")
    return rows


def labelled_items(scanned: Path, divided: Path) -> TrainItems:
    """Items whose labels may be used for training.

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

    ``with_val`` adds the items of the validation split, for use where nothing is selected on it.

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
