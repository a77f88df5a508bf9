"""Tables in which a flaw of a dataset is a value of a column.

A column such as ``copy_of`` is '' where an item is in order and says what is wrong where it is
not, so that every expectation is about one column and every failure can name its rows.
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
class Scanned:
    """A dataset to validate: its manifest, its rejects, and its split if it has one yet."""

    manifest: Manifest
    rejects: Sequence[Mapping[str, str]]
    split: pd.DataFrame | None = None

    @classmethod
    def load(cls, scan: Path, split: Path | None = None) -> "Scanned":
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


def items_tables(data: Scanned, target: Scanned | None = None) -> Iterator[pd.DataFrame]:
    """Describe each item, one row each in the manifest's order, some rows at a time.

    Args:
        target: for a source: what it must not give away.

    Returns:
        Tables of `PART` rows or fewer: the manifest's columns and ``same_id`` (id of an earlier
        item of that id), ``copy_of`` (id of the first item with the same content),
        ``other_label`` (classes that the same content stands under besides its own),
        ``elsewhere`` (splits that hold a copy or a member of its group), ``in_target`` (id of an
        equal item of the target) and ``held_out`` (the target's split, val or test, that this
        item equals although it is in use). Each is '' where there is nothing to say.
    """
    items = data.manifest.items
    copies = repeated(hashes(items, "content"))
    told = [
        ("same_id", _first(items, *repeated(hashes(items, "id")))),
        ("copy_of", _first(items, *copies)),
        ("other_label", _other_labels(data.manifest, *copies)),
        ("elsewhere", _elsewhere(data)),
    ]
    nothing = _Flaw(np.empty(0, np.int64), [])
    if target is None:
        told += [("in_target", nothing), ("held_out", nothing)]
    else:
        told += [("in_target", _in_target(items, target)), ("held_out", _held_out(data, target))]

    def described(rows: slice, part: pd.DataFrame) -> pd.DataFrame:
        return part.assign(**{name: flaw.of(rows) for name, flaw in told})

    yield from starmap(
        described, parts(items, *columns(data.manifest.modality))
    )  # holds no part while the next is read


@dataclass(frozen=True)
class _Flaw:
    """What is to be said of some items, most of them in order."""

    rows: NDArray[np.int64]  # ascending
    words: Sequence[str]

    def of(self, where: slice) -> NDArray[np.object_]:
        """What is said of these rows."""
        first, last = np.searchsorted(self.rows, (where.start, where.stop))
        found = np.full(where.stop - where.start, "", dtype=object)
        found[self.rows[first:last] - where.start] = self.words[first:last]
        return found


def _first(items: Items, rows: NDArray[np.int64], codes: NDArray[np.int64]) -> _Flaw:
    """Name the first item of each set of equal ones, where it is another."""
    _, first = np.unique(codes, return_index=True)
    later = np.delete(np.arange(len(rows)), first)
    names = chosen(items, rows[first], "id")["id"]
    return _Flaw(rows[later], names.loc[pd.Index(rows[first][codes[later]])].tolist())


def _other_labels(manifest: Manifest, rows: NDArray[np.int64], codes: NDArray[np.int64]) -> _Flaw:
    names = dict(enumerate(manifest.class_names))
    labels = numbers(manifest.items, "label")[rows].tolist()
    return _others(rows, codes, [names.get(label, f"label {label}") for label in labels])


def _elsewhere(data: Scanned) -> _Flaw:
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


def _others(rows: NDArray[np.int64], sets: NDArray[np.integer], values: Sequence[str]) -> _Flaw:
    """Name the other values within each row's set, '' where there are none."""
    known: dict[int, set[str]] = {}
    for key, value in zip(sets.tolist(), values, strict=True):
        known.setdefault(key, set()).add(value)
    told = [", ".join(sorted(known[k] - {v})) for k, v in zip(sets.tolist(), values, strict=True)]
    return _Flaw(rows, told)


def _in_target(items: Items, target: Scanned) -> _Flaw:
    rows, theirs = _equal(items, target.manifest.items, np.ones(len(target.manifest), bool))
    names = chosen(target.manifest.items, np.unique(theirs), "id")["id"]
    return _Flaw(rows, names.loc[pd.Index(theirs)].tolist())


def _held_out(data: Scanned, target: Scanned) -> _Flaw:
    if target.split is None:
        return _Flaw(np.empty(0, np.int64), [])
    side = target.split["split"]
    judged = side.isin(["val", "test"]).to_numpy(bool)
    rows, theirs = _equal(data.manifest.items, target.manifest.items, judged)
    if data.split is not None:
        used = (data.split["split"] != splitting.EXCLUDED).to_numpy()[rows]
        rows, theirs = rows[used], theirs[used]
    return _Flaw(rows, side.iloc[theirs].tolist())


def _equal(
    items: Items, others: Items, counted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the items that equal one of the counted others, and the row of the last such.

    One of the same content goes before one of the same file.
    """
    found = np.full(len(items), -1, np.int32)
    for column in ("sha256", "content"):
        _mark_equal(found, items, others, column, counted)
    rows = np.flatnonzero(found >= 0)
    return rows, found[rows].astype(np.int64)


def _mark_equal(
    found: NDArray[np.int32],
    items: Items,
    others: Items,
    column: str,
    counted: NDArray[np.bool_],
) -> None:
    """Write to each item (N) that equals a counted other in a column the row of the last such."""
    if not len(others):
        return
    known = hashes(others, column)
    known[~counted] = BLANK
    order = np.argsort(known, kind="stable").astype(np.int32)
    known.sort()
    for rows, part in hashes_in_parts(items, column):
        place = np.searchsorted(known, part, side="right") - 1
        same = (part != BLANK) & (known[place] == part)
        found[rows][same] = order[place[same]]


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


def files_tables(data: Scanned) -> Iterator[pd.DataFrame]:
    """List all that was found, some at a time: ``path`` and ``reason``, '' for what was read.

    Hidden files, such as those a file manager leaves in every folder, are no part of a dataset.
    """
    rejected = [(x["path"], x["reason"]) for x in data.rejects if x["reason"] != "hidden"]
    first = pd.DataFrame(rejected, columns=["path", "reason"], dtype="str")
    for _, part in parts(data.manifest.items, "id"):
        read = part.rename(columns={"id": "path"}).assign(reason="")
        yield pd.concat([first, read], ignore_index=True)
        first = first[:0]


def found(data: Scanned) -> int:
    """Number of files, hidden ones aside."""
    return len(data.manifest) + sum(x["reason"] != "hidden" for x in data.rejects)


def pair_table(source: Scanned, target: Scanned, near: Mapping[str, Any] | None) -> pd.DataFrame:
    """Describe source and target together in one row.

    Args:
        near: ``near_duplicates`` of the target's split.json; None when it is not known yet.

    Returns:
        Columns ``pair``, ``relation`` (or why there is none) and ``near_share``: the share of
        the target's val and test items with a near-duplicate in another split, of those that
        were searched for one; missing when near is None.
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
