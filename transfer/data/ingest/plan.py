"""How each kind of dataset takes up what is new: which files move where, and which are rewritten.

Nothing here changes a dataset. A plan is made, and files that are to take the place of others are
written beside it.
"""

import csv
import io
import posixpath
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from transfer.core.errors import DataRefusedError
from transfer.data.ingest.archive import Names
from transfer.data.ingest.changes import Added, Relabelled, Removed
from transfer.data.ingest.compare import Findings, Item
from transfer.data.readers import manifest_file
from transfer.data.readers.listing import Reject
from transfer.data.readers.npz import OPTIONAL, needed
from transfer.modalities.interface import Modality

LAYOUTS = "<class>/<file>, a .csv manifest with its files, or one .npz file"
_TABLES = (".csv", ".parquet")
_SYSTEM = (".", "thumbs.db", "desktop.ini", "__macosx")


@dataclass(frozen=True)
class Plan:
    """What becomes of which file. Paths are relative: of a delivery, or of a dataset."""

    arrivals: list[tuple[str, str]] = field(default_factory=list)
    """From the delivery, to the dataset."""
    moves: list[tuple[str, str]] = field(default_factory=list)
    """Within the dataset."""
    removals: list[str] = field(default_factory=list)
    rewrites: dict[str, bytes] = field(default_factory=dict)
    """New content of files of the dataset; '' is the dataset itself, where that is a file."""
    added: list[Added] = field(default_factory=list)
    relabelled: list[Relabelled] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)


def kind(dataset: Path) -> Path:
    """What a dataset is read by: its folder of class folders, its one .csv file, or its .npz file.

    Raises:
        DataRefusedError: several manifests lie in it, or a Parquet one.
    """
    if not dataset.is_dir():
        return dataset
    tables = [path for path in sorted(dataset.iterdir()) if path.suffix.lower() in _TABLES]
    if not tables:
        return dataset
    if len(tables) > 1 or tables[0].suffix.lower() != ".csv":
        raise DataRefusedError(
            f"{dataset} holds {', '.join(path.name for path in tables)}; expected class folders, "
            "or one .csv manifest: a Parquet manifest cannot be added to"
        )
    return tables[0]


def delivered(folder: Path, known: Sequence[str]) -> Path:
    """Find the dataset in an unpacked delivery, below folders that hold nothing else.

    Args:
        known: classes of the dataset; a folder named like one is a class folder.
    """
    while True:
        found = _visible(folder)
        if len(found) == 1 and found[0].suffix.lower() == ".npz":
            return found[0]
        if len(found) != 1 or not found[0].is_dir() or found[0].name in known:
            return kind(folder)
        within = _visible(found[0])
        has_table = any(path.suffix.lower() in _TABLES for path in within)
        if not has_table and not (within and all(map(_holds_a_dataset, within))):
            return kind(folder)
        folder = found[0]


def _visible(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if not p.name.lower().startswith(_SYSTEM)]


def _holds_a_dataset(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ".npz"


def unlisted(manifest: Path, known: Iterable[str]) -> list[Reject]:
    """Reject files of a delivery that its manifest does not name.

    Args:
        known: paths that the manifest names, rejected ones among them.
    """
    named = {*known, manifest.name}
    files = (p for p in sorted(manifest.parent.rglob("*")) if p.is_file())
    paths = [p.relative_to(manifest.parent).as_posix() for p in files]
    told = f"{manifest.name} does not name it"
    return [Reject(path, "not_listed", told) for path in paths if path not in named]


def into_folder(
    existing: Sequence[Item], files: Iterable[str], found: Findings, *, by_class_folder: bool
) -> Plan:
    """Plan for a folder of class folders.

    Args:
        existing: the dataset's items.
        files: every file of the dataset.
        by_class_folder: the delivery has class folders too, of which the first part of a path is
            one.

    Raises:
        DataRefusedError: an item has a group or a split, which class folders cannot hold, or a
            class that can be no folder.
    """
    folders = {item.label: item.id.split("/")[0] for item in existing}
    names, plan = Names(files), Plan()
    for old, right in found.relabelled:
        inside = old.id.partition("/")[2]
        new = _free(names, f"{folders.get(right.label, right.label)}/{inside}", old.sha256)
        plan.moves.append((old.id, new))
        plan.relabelled.append(_relabelled(right, old, new))
    for item in found.added:
        _check_folder_holds(item)
        inside = item.id.partition("/")[2] if by_class_folder else item.id
        new = _free(names, f"{folders.get(item.label, item.label)}/{inside}", item.sha256)
        plan.arrivals.append((item.id, new))
        plan.added.append(Added(path=item.id, id=new, label=item.label))
    plan.removals.extend(item.id for item in found.removed)
    plan.removed.extend(Removed(id=item.id, label=item.label) for item in found.removed)
    return plan


def _check_folder_holds(item: Item) -> None:
    if item.group or item.split:
        raise DataRefusedError(
            f"{item.id} comes with a group or a split, which a dataset of class folders cannot "
            "hold; remove those columns, or make the dataset a folder with a .csv manifest"
        )
    if "/" in item.label or item.label.startswith("."):
        raise DataRefusedError(
            f"{item.id} is of class {item.label!r}, which cannot be a folder's name; rename it"
        )


def _free(names: Names, wanted: str, sha256: str) -> str:
    """Take a name as wanted or, where another file has it, with digits of its digest."""
    stem, suffix = posixpath.splitext(wanted)
    for length in (0, 8, 64):
        name = f"{stem}-{sha256[:length]}{suffix}" if length else wanted
        if not names.clash(name):
            names.add(name)
            return name
    raise DataRefusedError(f"{wanted} cannot be named: {names.clash(wanted)} is in its way")


def _relabelled(right: Item, old: Item, new: str) -> Relabelled:
    return Relabelled(path=right.id, was=old.id, id=new, old_label=old.label, label=right.label)


def into_table(manifest: Path, files: Iterable[str], found: Findings) -> Plan:
    """Plan for a folder with a .csv manifest; its other columns and rows stay as they are.

    Args:
        files: every file of the dataset.

    Raises:
        DataRefusedError: items come with a group or a split, and the manifest has no such column.
    """
    names, plan = Names(files), Plan()
    for item in found.added:
        new = _free(names, item.id, item.sha256)
        plan.arrivals.append((item.id, new))
        plan.added.append(Added(path=item.id, id=new, label=item.label))
    plan.relabelled.extend(_relabelled(right, old, old.id) for old, right in found.relabelled)
    plan.removals.extend(item.id for item in found.removed)
    plan.removed.extend(Removed(id=item.id, label=item.label) for item in found.removed)
    plan.rewrites[manifest.name] = _table(manifest, found, plan)
    return plan


def _table(manifest: Path, found: Findings, plan: Plan) -> bytes:
    raw = manifest.read_bytes()
    mark = raw.startswith(b"\xef\xbb\xbf")
    header, *rows = (r for r in csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")) if r)
    columns = {name.strip(): number for number, name in enumerate(header)}
    _check_table_holds(manifest, columns, found.added)
    labels = {old.id: right.label for old, right in found.relabelled}
    gone = {item.id for item in found.removed}
    kept = [row for row in rows if _path(row, columns) not in gone]
    for row in kept:
        row[columns["label"]] = labels.get(_path(row, columns), row[columns["label"]])
    new = [
        _row(header, {"path": told.id, "label": item.label, "group": item.group}, item.split)
        for told, item in zip(plan.added, found.added, strict=True)
    ]
    text = io.StringIO(newline="")
    ending = "\r\n" if b"\r\n" in raw else "\n"
    csv.writer(text, lineterminator=ending).writerows([header, *kept, *new])
    return (b"\xef\xbb\xbf" if mark else b"") + text.getvalue().encode()


def _path(row: Sequence[str], columns: Mapping[str, int]) -> str:
    told = row[columns["path"]]
    return posixpath.normpath(told) if told else ""


def _row(header: Sequence[str], values: dict[str, str], split: str) -> list[str]:
    return [(values | {"split": split}).get(name.strip(), "") for name in header]


def _check_table_holds(manifest: Path, columns: Mapping[str, int], added: Sequence[Item]) -> None:
    for column in ("group", "split"):
        if column not in columns and any(getattr(item, column) for item in added):
            raise DataRefusedError(
                f"the delivery tells a {column} of its items, and {manifest} has no such column; "
                f"add the column {column}, empty where there is none"
            )


def empty_table(delivery: Path) -> bytes:
    """A manifest with the columns of another, and no rows."""
    with delivery.open(encoding="utf-8-sig", newline="") as text:
        found = [name.strip() for name in next(csv.reader(text))]
    return (
        ",".join(name for name in found if name in (*manifest_file.NEEDED, *manifest_file.OPTIONAL))
        + "\n"
    ).encode()


def empty_arrays(delivery: Path, modality: Modality) -> bytes:
    """The arrays of another .npz file without an item or a class."""
    arrays = _load(delivery)
    kept = {name: arrays[name][:0] for name in (*needed(modality), *OPTIONAL) if name in arrays}
    return _saved(kept, compressed=_is_compressed(delivery))


def into_arrays(
    dataset: Path, delivery: Path, found: Findings, *, name: str, modality: Modality
) -> Plan:
    """Plan for an .npz file, which is rewritten.

    Args:
        dataset: the file as it is.
        delivery: another with items of the same shape.
        name: of the dataset's file, which the ids of its items begin with.
        modality: of the items.

    Raises:
        DataRefusedError: the arrays of the two do not fit together.
    """
    old, new = _load(dataset), _load(delivery)
    _check_fit(dataset, old, delivery, new, modality)
    key = modality.array_key
    names = [str(one) for one in old["class_names"]]
    more = sorted({item.label for item in found.added} - set(names))
    index = {label: row for row, label in enumerate([*names, *more])}
    labels = old["labels"].astype(np.int64)
    for item, right in found.relabelled:
        labels[_number(item.id)] = index[right.label]
    keep = np.setdiff1d(np.arange(len(labels)), [_number(item.id) for item in found.removed])
    take = np.array([_number(item.id) for item in found.added], dtype=np.int64)
    told = [index[item.label] for item in found.added]
    arrays = {
        key: np.concatenate([old[key][keep], new[key][take]]),
        "labels": np.concatenate([labels[keep], np.array(told, dtype=np.int64)]),
        "class_names": np.array([*names, *more]),
        **{k: _optional(k, old, new, keep, take) for k in OPTIONAL if k in {*old, *new}},
    }
    ids = [f"{name}#{len(keep) + n:0{_width(arrays)}d}" for n in range(len(take))]
    return Plan(
        rewrites={"": _saved(arrays, compressed=_is_compressed(dataset))},
        added=[
            Added(path=item.id, id=id_, label=item.label)
            for item, id_ in zip(found.added, ids, strict=True)
        ],
        relabelled=[_relabelled(right, item, item.id) for item, right in found.relabelled],
        removed=[Removed(id=item.id, label=item.label) for item in found.removed],
    )


def _width(arrays: Mapping[str, Any]) -> int:
    return max(6, len(str(len(arrays["labels"]) - 1)))


def _number(id_: str) -> int:
    return int(id_.rpartition("#")[2])


def _load(file: Path) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _check_fit(
    dataset: Path,
    old: dict[str, Any],
    delivery: Path,
    new: dict[str, Any],
    modality: Modality,
) -> None:
    key = modality.array_key
    if odd := sorted({*old} - {*needed(modality), *OPTIONAL}):
        raise DataRefusedError(
            f"{dataset} holds the array {odd[0]!r}, of which nobody can say what it is for the new "
            "items; remove it, or add them yourself"
        )
    if old[key].shape[1:] != new[key].shape[1:]:
        raise DataRefusedError(
            f"the {modality.nouns.many} in {delivery.name} are {new[key].shape[1:]}, those in "
            f"{dataset} {old[key].shape[1:]}; expected the same shape"
        )


def _optional(key: str, old: dict[str, Any], new: dict[str, Any], keep: Any, take: Any) -> Any:
    """Groups or splits of both, as text; '' where there were none."""
    parts = [
        arrays[key][rows].astype(str) if key in arrays else np.full(len(rows), "")
        for arrays, rows in ((old, keep), (new, take))
    ]
    return np.concatenate(parts)


def _is_compressed(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        return any(member.compress_type for member in archive.infolist())


def _saved(arrays: dict[str, Any], *, compressed: bool) -> bytes:
    content = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(content, **arrays)
    return content.getvalue()
