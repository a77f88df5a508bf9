"""Tables in which a flaw of a dataset is a value of a column.

A column such as ``copy_of`` is '' where an item is in order and says what is wrong where it is
not, so that every expectation is about one column and every failure can name its rows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from transfer import split as splitting
from transfer.duplicates import file_hashes, linked_sets
from transfer.errors import DataRefusedError
from transfer.labels import relate
from transfer.sample import Manifest


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
        return cls(Manifest.load(scan), rejects, None if split is None else splitting.load(split))


def items_table(data: Scanned, target: Scanned | None = None) -> pd.DataFrame:
    """Describe each item, one row each in the manifest's order.

    Args:
        target: for a source: what it must not give away.

    Returns:
        The manifest's columns and ``copy_of`` (id of the first item with the same picture),
        ``other_label`` (classes that the same picture stands under besides its own),
        ``elsewhere`` (splits that hold a copy or a member of its group), ``in_target`` (id of an
        equal item of the target) and ``held_out`` (the target's split, val or test, that this
        item equals although it is in use). Each is '' where there is nothing to say.

    Raises:
        DataRefusedError: a split belongs to another manifest.
    """
    table = data.manifest.items.copy().reset_index(drop=True)
    first = table.groupby("pixels")["id"].transform("first")
    table["copy_of"] = first.where(first != table["id"], "")
    table["other_label"] = _others(
        _class_of(data.manifest), table["pixels"], np.full(len(table), True)
    )
    side = _side(data)
    table["elsewhere"] = _others(side, pd.Series(linked_sets(table)), side != splitting.EXCLUDED)
    if target is None:
        return table.assign(in_target="", held_out="")
    return _against(table, side, target)


def _class_of(manifest: Manifest) -> np.ndarray:
    names = dict(enumerate(manifest.class_names))
    return np.array([names.get(x, f"label {x}") for x in manifest.items["label"]], dtype=object)


def _side(data: Scanned) -> np.ndarray:
    """Split of each item; '' throughout where there is no split yet."""
    if data.split is None:
        return np.full(len(data.manifest), "", dtype=object)
    if data.split["id"].tolist() != data.manifest.items["id"].tolist():
        raise DataRefusedError(
            f"the split of {data.manifest.name} has {len(data.split)} rows that are not the "
            f"{len(data.manifest)} items of its manifest; split again"
        )
    return data.split["split"].to_numpy(dtype=object)


def _others(values: np.ndarray, sets: pd.Series, counted: np.ndarray) -> np.ndarray:
    """Name the other values within each row's set, '' where there are none.

    Args:
        values: N strings.
        sets: N, equal within a set.
        counted: N booleans; the other rows neither have nor are others.
    """
    rows = pd.DataFrame({"value": values, "set": sets.to_numpy()})[counted]
    mixed = rows[rows.groupby("set")["value"].transform("nunique") > 1]
    found = np.full(len(values), "", dtype=object)
    for _, group in mixed.groupby("set"):
        names = sorted(set(group["value"]))
        found[group.index] = [", ".join(n for n in names if n != x) for x in group["value"]]
    return found


def _against(table: pd.DataFrame, side: np.ndarray, target: Scanned) -> pd.DataFrame:
    theirs = _side(target)
    table["in_target"] = _match(table, target.manifest.items, target.manifest.items["id"].tolist())
    table["held_out"] = ""
    if target.split is not None:
        judged = np.isin(theirs, ["val", "test"])
        match = _match(table, target.manifest.items[judged], theirs[judged].tolist())
        table["held_out"] = np.where(side != splitting.EXCLUDED, match, "")
    return table


def _match(items: pd.DataFrame, others: pd.DataFrame, told: Sequence[str]) -> np.ndarray:
    """Tell of each item what belongs to its equal among others: same picture or same file."""
    by_file = dict(zip(file_hashes(others), told, strict=True)) | {"": ""}
    by_picture = dict(zip(others["pixels"], told, strict=True))
    keys = zip(items["pixels"], file_hashes(items), strict=True)
    return np.array([by_picture.get(p, by_file.get(f, "")) for p, f in keys], dtype=object)


def classes_table(manifest: Manifest) -> pd.DataFrame:
    """Count the items of each class.

    Returns:
        Columns ``class``, ``items``, and ``times_fewer`` than in the largest class, missing for
        an empty class.
    """
    counts = manifest.items["label"].value_counts()
    counts = counts.reindex(range(len(manifest.class_names)), fill_value=0)
    table = pd.DataFrame({"class": list(manifest.class_names), "items": counts.to_numpy()})
    table["times_fewer"] = table["items"].max() / table["items"].where(table["items"] > 0)
    return table


def files_table(data: Scanned) -> pd.DataFrame:
    """List all that was found: columns ``path`` and ``reason``, '' for what was read.

    Hidden files, such as those a file manager leaves in every folder, are no part of a dataset.
    """
    rejected = [(x["path"], x["reason"]) for x in data.rejects if x["reason"] != "hidden"]
    read = [(name, "") for name in data.manifest.items["id"]]
    return pd.DataFrame(rejected + read, columns=["path", "reason"])


def pair_table(source: Scanned, target: Scanned, near: Mapping[str, int] | None) -> pd.DataFrame:
    """Describe source and target together in one row.

    Args:
        near: by split, how many target items have a near-duplicate in another split; None when
            it is not known yet.

    Returns:
        Columns ``pair``, ``relation`` (or why there is none) and ``near_share``: the share of
        the target's val and test items with a near-duplicate in another split, missing when
        near is None.
    """
    try:
        relation: str = relate(source.manifest.class_names, target.manifest.class_names).relation
    except DataRefusedError as error:
        relation = str(error)
    share = float("nan")
    if near is not None:
        judged = int(np.isin(_side(target), ["val", "test"]).sum())
        share = (near["val"] + near["test"]) / max(judged, 1)
    row = {"pair": f"{source.manifest.name} to {target.manifest.name}"}
    return pd.DataFrame([row | {"relation": relation, "near_share": share}])
