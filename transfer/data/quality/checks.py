"""Tables in which each problem of a dataset is a value in a column.

A column such as ``copy_of`` is '' for an item without the problem and describes the problem
otherwise, so every expectation is about one column and every failure can name its rows.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from transfer.core.errors import DataRefusedError
from transfer.data.label_overlap import relate
from transfer.data.manifest import Manifest, columns
from transfer.data.splits import split as splitting
from transfer.data.splits.duplicates import BLANK, hashes, hashes_in_parts, linked_sets, repeated
from transfer.data.storage.table import Items, chosen, numbers, parts


@dataclass(frozen=True)
class ScannedDataset:
    """A dataset to validate: its manifest, its rejects, and its split if it exists already."""

    manifest: Manifest
    rejects: Sequence[Mapping[str, str]]
    split: pd.DataFrame | None = None

    @classmethod
    def load(cls, scan: Path, split: Path | None = None) -> "ScannedDataset":
        """Read a scan folder and, where there is one, a split folder.

        Raises:
            DataRefusedError: a file is missing or damaged.
        """
        try:
            rejects = json.loads((scan / "rejects.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataRefusedError(
                f"no readable rejects.json in {scan} ({error}); scan again"
            ) from error
        manifest = Manifest.load(scan)
        return cls(manifest, rejects, None if split is None else splitting.load(split, manifest))


def items_tables(
    data: ScannedDataset, target: ScannedDataset | None = None
) -> Iterator[pd.DataFrame]:
    """Tables of all items in the manifest's order, a row per item, in parts.

    Args:
        target: for a source: the target whose held-out items must not be in it.

    Returns:
        Tables of `PART` rows or fewer: the manifest's columns and ``same_id`` (id of an earlier
        item of that id), ``copy_of`` (id of the first item with the same content),
        ``other_label`` (classes that the same content stands under besides its own),
        ``elsewhere`` (splits that hold a copy or a member of its group), ``in_target`` (id of an
        equal item of the target) and ``held_out`` (the target's split, val or test, that this
        item equals although it is in use). Each is '' for an item without the problem.
    """
    items = data.manifest.items
    copies = repeated(hashes(items, "content"))
    problems = [
        ("same_id", _first(items, *repeated(hashes(items, "id")))),
        ("copy_of", _first(items, *copies)),
        ("other_label", _other_labels(data.manifest, *copies)),
        ("elsewhere", _elsewhere(data)),
    ]
    no_problem = _Problem(np.empty(0, np.int64), [])
    if target is None:
        problems += [("in_target", no_problem), ("held_out", no_problem)]
    else:
        problems += [
            ("in_target", _in_target(items, target)),
            ("held_out", _held_out(data, target)),
        ]

    def described(rows: slice, part: pd.DataFrame) -> pd.DataFrame:
        return part.assign(**{name: problem.of(rows) for name, problem in problems})

    yield from starmap(
        described, parts(items, *columns(data.manifest.modality))
    )  # holds no part while the next is read


@dataclass(frozen=True)
class _Problem:
    """The text of a problem for the rows that have it; most rows do not."""

    rows: NDArray[np.int64]  # ascending
    words: Sequence[str]

    def of(self, where: slice) -> NDArray[np.object_]:
        """Texts of a slice of rows; '' for a row without the problem."""
        first, last = np.searchsorted(self.rows, (where.start, where.stop))
        texts = np.full(where.stop - where.start, "", dtype=object)
        texts[self.rows[first:last] - where.start] = self.words[first:last]
        return texts


def _first(items: Items, rows: NDArray[np.int64], codes: NDArray[np.int64]) -> _Problem:
    """For each item of a set of equal items except the first: the id of the first."""
    _, first = np.unique(codes, return_index=True)
    later = np.delete(np.arange(len(rows)), first)
    names = chosen(items, rows[first], "id")["id"]
    return _Problem(rows[later], names.loc[pd.Index(rows[first][codes[later]])].tolist())


def _other_labels(
    manifest: Manifest, rows: NDArray[np.int64], codes: NDArray[np.int64]
) -> _Problem:
    names = dict(enumerate(manifest.class_names))
    labels = numbers(manifest.items, "label")[rows].tolist()
    return _others(rows, codes, [names.get(label, f"label {label}") for label in labels])


def _elsewhere(data: ScannedDataset) -> _Problem:
    if data.split is None:
        return _others(np.empty(0, np.int64), np.empty(0, np.int64), [])
    side, sets = data.split["split"], linked_sets(data.manifest.items)
    codes = side.cat.codes.to_numpy()
    used = (side != splitting.EXCLUDED).to_numpy()
    most, least = np.full((2, len(sets)), [[-1], [127]], np.int8)
    np.maximum.at(most, sets, np.where(used, codes, np.int8(-1)))
    np.minimum.at(least, sets, np.where(used, codes, np.int8(127)))
    rows = np.flatnonzero(used & (most > least)[sets])
    return _others(rows, sets[rows], side.iloc[rows].tolist())


def _others(rows: NDArray[np.int64], sets: NDArray[np.integer], values: Sequence[str]) -> _Problem:
    """The other values within each row's set, '' where there are none."""
    values_of_set: dict[int, set[str]] = {}
    for key, value in zip(sets.tolist(), values, strict=True):
        values_of_set.setdefault(key, set()).add(value)
    other_values = [
        ", ".join(sorted(values_of_set[key] - {value}))
        for key, value in zip(sets.tolist(), values, strict=True)
    ]
    return _Problem(rows, other_values)


def _in_target(items: Items, target: ScannedDataset) -> _Problem:
    rows, theirs = _equal(items, target.manifest.items, np.ones(len(target.manifest), bool))
    names = chosen(target.manifest.items, np.unique(theirs), "id")["id"]
    return _Problem(rows, names.loc[pd.Index(theirs)].tolist())


def _held_out(data: ScannedDataset, target: ScannedDataset) -> _Problem:
    if target.split is None:
        return _Problem(np.empty(0, np.int64), [])
    side = target.split["split"]
    held_out = side.isin(["val", "test"]).to_numpy(bool)
    rows, theirs = _equal(data.manifest.items, target.manifest.items, held_out)
    if data.split is not None:
        used = (data.split["split"] != splitting.EXCLUDED).to_numpy()[rows]
        rows, theirs = rows[used], theirs[used]
    return _Problem(rows, side.iloc[theirs].tolist())


def _equal(
    items: Items, others: Items, counted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the items that equal one of the counted others, and the row of the last such.

    One of the same content goes before one of the same file.
    """
    equal_rows = np.full(len(items), -1, np.int32)
    for column in ("sha256", "content"):
        _mark_equal(equal_rows, items, others, column, counted)
    rows = np.flatnonzero(equal_rows >= 0)
    return rows, equal_rows[rows].astype(np.int64)


def _mark_equal(
    equal_rows: NDArray[np.int32],
    items: Items,
    others: Items,
    column: str,
    counted: NDArray[np.bool_],
) -> None:
    """Write, for each item (N) equal to a counted other in a column, the row of the last such."""
    if not len(others):
        return
    known = hashes(others, column)
    known[~counted] = BLANK
    order = np.argsort(known, kind="stable").astype(np.int32)
    known.sort()
    for rows, part in hashes_in_parts(items, column):
        place = np.searchsorted(known, part, side="right") - 1
        same = (part != BLANK) & (known[place] == part)
        equal_rows[rows][same] = order[place[same]]


def classes_table(manifest: Manifest) -> pd.DataFrame:
    """Count the items of each class.

    Returns:
        Columns ``class``, ``items``, and ``times_fewer`` than in the largest class, missing for
        an empty class.
    """
    classes = len(manifest.class_names)
    counts = np.bincount(numbers(manifest.items, "label"), minlength=classes)[:classes]
    table = pd.DataFrame({"class": list(manifest.class_names), "items": counts})
    table["times_fewer"] = table["items"].max() / table["items"].where(table["items"] > 0)
    return table


def files_tables(data: ScannedDataset) -> Iterator[pd.DataFrame]:
    """List all files in parts: ``path`` and ``reason``; the reason is '' for a file that was read.

    Hidden files, such as those of a file manager, do not belong to a dataset and are not listed.
    """
    rejected = [
        (reject["path"], reject["reason"])
        for reject in data.rejects
        if reject["reason"] != "hidden"
    ]
    first = pd.DataFrame(rejected, columns=["path", "reason"], dtype="str")
    for _, part in parts(data.manifest.items, "id"):
        accepted = part.rename(columns={"id": "path"}).assign(reason="")
        yield pd.concat([first, accepted], ignore_index=True)
        first = first[:0]


def file_count(data: ScannedDataset) -> int:
    """Number of files and array rows, without hidden files."""
    return len(data.manifest) + sum(reject["reason"] != "hidden" for reject in data.rejects)


def pair_table(
    source: ScannedDataset, target: ScannedDataset, near: Mapping[str, Any] | None
) -> pd.DataFrame:
    """A table of a single row about source and target together.

    Args:
        near: ``near_duplicates`` of the target's split.json; None when they are not known yet.

    Returns:
        Columns ``pair``, ``relation`` (or why there is none) and ``near_share``: the share of
        the searched val and test items of the target that have a near-duplicate in another split;
        missing when near is None.
    """
    try:
        relation: str = relate(source.manifest.class_names, target.manifest.class_names).relation
    except DataRefusedError as error:
        relation = str(error)
    share = float("nan")
    if near is not None:
        touched, searched = near["items"], near["searched"]
        share = (touched["val"] + touched["test"]) / max(sum(searched.values()), 1)
    row = {"pair": f"{source.manifest.name} to {target.manifest.name}"}
    return pd.DataFrame([row | {"relation": relation, "near_share": share}])
