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

from transfer import split
from transfer.duplicates import linked_sets
from transfer.errors import DataRefusedError
from transfer.normal import Normalisation
from transfer.sample import Manifest
from transfer.scan import load_images


@dataclass(frozen=True)
class TrainItems:
    """Labelled items to learn from or to select on."""

    images: Tensor  # N x C x H x W uint8
    labels: Tensor  # N int64
    ids: NDArray[np.str_]  # N
    groups: NDArray[np.str_]  # N: equal where a fold must not part items: groups and copies

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.bool_]) -> "TrainItems":
        """The items where ``rows`` (N bool) is true."""
        kept = torch.from_numpy(np.flatnonzero(rows))
        return TrainItems(self.images[kept], self.labels[kept], self.ids[rows], self.groups[rows])

    def without(self, groups: NDArray[np.str_]) -> "TrainItems":
        """The items of none of these groups."""
        return self.take(~np.isin(self.groups, groups))


@dataclass(frozen=True)
class PoolItems:
    """Pictures of the target's training split, labelled or not: there is no label in here."""

    images: Tensor  # N x C x H x W uint8
    ids: NDArray[np.str_]  # N
    groups: NDArray[np.str_]  # N

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, groups: NDArray[np.str_]) -> "PoolItems":
        """The items of none of these groups."""
        rows = ~np.isin(self.groups, groups)
        kept = torch.from_numpy(np.flatnonzero(rows))
        return PoolItems(self.images[kept], self.ids[rows], self.groups[rows])


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
        torch.cat([one.images for one in kept]),
        torch.cat([row[one.labels] for row, one in zip(rows, kept, strict=True)]),
        np.concatenate([_marked(i, one.ids) for i, one in enumerate(kept)]),
        np.concatenate([_marked(i, one.groups) for i, one in enumerate(kept)]),
    )
    return SourceItems.of(items, names)


def _marked(part: int, keys: NDArray[np.str_]) -> NDArray[np.str_]:
    """Keys that differ from those of every other part."""
    return np.array([f"{part}:{key}" for key in keys.tolist()], dtype=str)


@dataclass(frozen=True)
class TestItems:
    """Held-out items: read once per model, by the evaluation alone."""

    images: Tensor  # N x C x H x W uint8
    labels: Tensor  # N int64
    ids: NDArray[np.str_]  # N

    __test__ = False  # not a test case, whatever a test runner thinks of the name


def normalisation(items: TrainItems | PoolItems) -> Normalisation:
    """Measure the items; a constant channel gets a standard deviation of 1/255."""
    channels = items.images.transpose(0, 1)  # C x N x H x W
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in channels]).double()
    shares, levels = counts / counts.sum(dim=1, keepdim=True), torch.arange(256).double() / 255
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]).square()).sum(dim=1)
    std = variance.sqrt().clamp_min(1 / 255)
    return Normalisation(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


@dataclass(frozen=True)
class _Rows:
    images: Tensor
    items: pd.DataFrame
    groups: NDArray[np.str_]

    @property
    def labels(self) -> Tensor:
        return torch.from_numpy(self.items["label"].to_numpy(np.int64, copy=True))

    @property
    def ids(self) -> NDArray[np.str_]:
        return self.items["id"].to_numpy(str)

    def to_train(self) -> TrainItems:
        return TrainItems(self.images, self.labels, self.ids, self.groups)


def _groups(items: pd.DataFrame) -> NDArray[np.str_]:
    """Name each set of linked items (N) by its smallest key, whatever the order of the items."""
    own = items["group"].where(items["group"] != "", items["pixels"])
    return own.groupby(linked_sets(items)).transform("min").to_numpy(str)


def _rows(scanned: Path, divided: Path, column: str, *values: object) -> _Rows:
    manifest, table = Manifest.load(scanned), split.load(divided)
    if list(table["id"]) != list(manifest.items["id"]):
        raise DataRefusedError(
            f"the split in {divided} lists other items than the manifest in {scanned}; "
            "split the dataset again"
        )
    rows = table[column].isin(values).to_numpy(bool)
    images = torch.from_numpy(np.ascontiguousarray(load_images(scanned)[rows]))
    return _Rows(images, manifest.items[rows], _groups(manifest.items)[rows])


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
