"""Plan how new items enter each kind of dataset: which files move where, and which are rewritten.

No function here changes a dataset. A plan contains the new content of files that are replaced.
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
    """What happens to which file. Paths are relative to the delivery or to the dataset."""

    arrivals: list[tuple[str, str]] = field(default_factory=list)
    """Path in the delivery, and new path in the dataset."""
    moves: list[tuple[str, str]] = field(default_factory=list)
    """Old and new path in the dataset."""
    removals: list[str] = field(default_factory=list)
    rewrites: dict[str, bytes] = field(default_factory=dict)
    """New content of files of the dataset; '' is the dataset itself, where that is a file."""
    added: list[Added] = field(default_factory=list)
    relabelled: list[Relabelled] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)


def kind(dataset: Path) -> Path:
    """The path from which a dataset is read: its class folders, its .csv file, or its .npz file.

    Raises:
        DataRefusedError: the folder contains several manifests, or a Parquet manifest.
    """
    if not dataset.is_dir():
        return dataset
    tables = [path for path in sorted(dataset.iterdir()) if path.suffix.lower() in _TABLES]
    if not tables:
        return dataset
    if len(tables) > 1 or tables[0].suffix.lower() != ".csv":
        raise DataRefusedError(
            f"{dataset} holds {', '.join(path.name for path in tables)}; expected class folders, "
            "or one .csv manifest: items cannot be added to a Parquet manifest"
        )
    return tables[0]


def delivered(folder: Path, known: Sequence[str]) -> Path:
    """Find the dataset in an unpacked delivery; outer folders that contain only it are skipped.

    Args:
        known: classes of the dataset; a folder with the name of a class is a class folder.
    """
    while True:
        children = _visible(folder)
        if len(children) == 1 and children[0].suffix.lower() == ".npz":
            return children[0]
        if len(children) != 1 or not children[0].is_dir() or children[0].name in known:
            return kind(folder)
        within = _visible(children[0])
        has_table = any(path.suffix.lower() in _TABLES for path in within)
        if not has_table and not (within and all(map(_holds_a_dataset, within))):
            return kind(folder)
        folder = children[0]


def _visible(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if not p.name.lower().startswith(_SYSTEM)]


def _holds_a_dataset(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ".npz"


def unlisted(manifest: Path, known: Iterable[str]) -> list[Reject]:
    """Reject files of a delivery that its manifest does not name.

    Args:
        known: paths that the manifest names, including rejected paths.
    """
    named = {*known, manifest.name}
    files = (p for p in sorted(manifest.parent.rglob("*")) if p.is_file())
    paths = [p.relative_to(manifest.parent).as_posix() for p in files]
    detail = f"{manifest.name} does not name it"
    return [Reject(path, "not_listed", detail) for path in paths if path not in named]


def into_folder(
    existing: Sequence[Item], files: Iterable[str], findings: Findings, *, by_class_folder: bool
) -> Plan:
    """Plan for a folder of class folders.

    Args:
        existing: the dataset's items.
        files: every file of the dataset.
        by_class_folder: the delivery has class folders too, so the first part of a path is a class.

    Raises:
        DataRefusedError: an item has a group or a split, which class folders cannot represent, or a
            class whose name cannot be the name of a folder.
    """
    folders = {item.label: item.id.split("/")[0] for item in existing}
    names, plan = Names(files), Plan()
    for old, correction in findings.relabelled:
        inside = old.id.partition("/")[2]
        new = _free(
            names, f"{folders.get(correction.label, correction.label)}/{inside}", old.sha256
        )
        plan.moves.append((old.id, new))
        plan.relabelled.append(_relabelled(correction, old, new))
    for item in findings.added:
        _check_folder_holds(item)
        inside = item.id.partition("/")[2] if by_class_folder else item.id
        new = _free(names, f"{folders.get(item.label, item.label)}/{inside}", item.sha256)
        plan.arrivals.append((item.id, new))
        plan.added.append(Added(path=item.id, id=new, label=item.label))
    plan.removals.extend(item.id for item in findings.removed)
    plan.removed.extend(Removed(id=item.id, label=item.label) for item in findings.removed)
    return plan


def _check_folder_holds(item: Item) -> None:
    if item.group or item.split:
        raise DataRefusedError(
            f"{item.id} comes with a group or a split, which a dataset of class folders cannot "
            "represent; remove those columns, or make the dataset a folder with a .csv manifest"
        )
    if "/" in item.label or item.label.startswith("."):
        raise DataRefusedError(
            f"{item.id} is of class {item.label!r}, which cannot be a folder's name; rename it"
        )


def _free(names: Names, wanted: str, sha256: str) -> str:
    """Reserve the wanted name or, where another file has it, the name with digits of the digest."""
    stem, suffix = posixpath.splitext(wanted)
    for length in (0, 8, 64):
        name = f"{stem}-{sha256[:length]}{suffix}" if length else wanted
        if not names.clash(name):
            names.add(name)
            return name
    raise DataRefusedError(f"{wanted} cannot be added: its name clashes with {names.clash(wanted)}")


def _relabelled(correction: Item, old: Item, new: str) -> Relabelled:
    return Relabelled(
        path=correction.id, was=old.id, id=new, old_label=old.label, label=correction.label
    )


def into_table(manifest: Path, files: Iterable[str], findings: Findings) -> Plan:
    """Plan for a folder with a .csv manifest; other columns and rows do not change.

    Args:
        files: every file of the dataset.

    Raises:
        DataRefusedError: items have a group or a split, and the manifest has no such column.
    """
    names, plan = Names(files), Plan()
    for item in findings.added:
        new = _free(names, item.id, item.sha256)
        plan.arrivals.append((item.id, new))
        plan.added.append(Added(path=item.id, id=new, label=item.label))
    plan.relabelled.extend(
        _relabelled(correction, old, old.id) for old, correction in findings.relabelled
    )
    plan.removals.extend(item.id for item in findings.removed)
    plan.removed.extend(Removed(id=item.id, label=item.label) for item in findings.removed)
    plan.rewrites[manifest.name] = _table(manifest, findings, plan)
    return plan


def _table(manifest: Path, findings: Findings, plan: Plan) -> bytes:
    raw = manifest.read_bytes()
    has_bom = raw.startswith(b"\xef\xbb\xbf")
    header, *rows = (r for r in csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")) if r)
    columns = {name.strip(): number for number, name in enumerate(header)}
    _check_table_holds(manifest, columns, findings.added)
    labels = {old.id: correction.label for old, correction in findings.relabelled}
    removed = {item.id for item in findings.removed}
    kept = [row for row in rows if _path(row, columns) not in removed]
    for row in kept:
        row[columns["label"]] = labels.get(_path(row, columns), row[columns["label"]])
    new = [
        _row(header, {"path": added.id, "label": item.label, "group": item.group}, item.split)
        for added, item in zip(plan.added, findings.added, strict=True)
    ]
    text = io.StringIO(newline="")
    ending = "\r\n" if b"\r\n" in raw else "\n"
    csv.writer(text, lineterminator=ending).writerows([header, *kept, *new])
    return (b"\xef\xbb\xbf" if has_bom else b"") + text.getvalue().encode()


def _path(row: Sequence[str], columns: Mapping[str, int]) -> str:
    path = row[columns["path"]]
    return posixpath.normpath(path) if path else ""


def _row(header: Sequence[str], values: dict[str, str], split: str) -> list[str]:
    return [(values | {"split": split}).get(name.strip(), "") for name in header]


def _check_table_holds(manifest: Path, columns: Mapping[str, int], added: Sequence[Item]) -> None:
    for column in ("group", "split"):
        if column not in columns and any(getattr(item, column) for item in added):
            raise DataRefusedError(
                f"the delivery gives a {column} for its items, and {manifest} has no such column; "
                f"add the column {column}, empty where there is none"
            )


def empty_table(delivery: Path) -> bytes:
    """A manifest with the columns of the delivery's manifest, and no rows."""
    with delivery.open(encoding="utf-8-sig", newline="") as text:
        header = [name.strip() for name in next(csv.reader(text))]
    return (
        ",".join(
            name for name in header if name in (*manifest_file.NEEDED, *manifest_file.OPTIONAL)
        )
        + "\n"
    ).encode()


def empty_arrays(delivery: Path, modality: Modality) -> bytes:
    """The arrays of the delivery's .npz file, without items and classes."""
    arrays = _load(delivery)
    kept = {name: arrays[name][:0] for name in (*needed(modality), *OPTIONAL) if name in arrays}
    return _saved(kept, compressed=_is_compressed(delivery))


def into_arrays(
    dataset: Path, delivery: Path, findings: Findings, *, name: str, modality: Modality
) -> Plan:
    """Plan for an .npz file, which is rewritten.

    Args:
        dataset: the current file.
        delivery: an .npz file with items of the same shape.
        name: name of the dataset's file, with which the ids of its items begin.
        modality: modality of the items.

    Raises:
        DataRefusedError: the arrays of the two files do not fit together.
    """
    old, new = _load(dataset), _load(delivery)
    _check_fit(dataset, old, delivery, new, modality)
    key = modality.array_key
    names = [str(name) for name in old["class_names"]]
    new_names = sorted({item.label for item in findings.added} - set(names))
    index = {label: row for row, label in enumerate([*names, *new_names])}
    labels = old["labels"].astype(np.int64)
    for item, correction in findings.relabelled:
        labels[_number(item.id)] = index[correction.label]
    keep = np.setdiff1d(np.arange(len(labels)), [_number(item.id) for item in findings.removed])
    take = np.array([_number(item.id) for item in findings.added], dtype=np.int64)
    new_labels = [index[item.label] for item in findings.added]
    arrays = {
        key: np.concatenate([old[key][keep], new[key][take]]),
        "labels": np.concatenate([labels[keep], np.array(new_labels, dtype=np.int64)]),
        "class_names": np.array([*names, *new_names]),
        **{k: _optional(k, old, new, keep, take) for k in OPTIONAL if k in {*old, *new}},
    }
    ids = [f"{name}#{len(keep) + n:0{_width(arrays)}d}" for n in range(len(take))]
    return Plan(
        rewrites={"": _saved(arrays, compressed=_is_compressed(dataset))},
        added=[
            Added(path=item.id, id=id_, label=item.label)
            for item, id_ in zip(findings.added, ids, strict=True)
        ],
        relabelled=[
            _relabelled(correction, item, item.id) for item, correction in findings.relabelled
        ],
        removed=[Removed(id=item.id, label=item.label) for item in findings.removed],
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
            f"{dataset} holds the array {odd[0]!r}, whose values for the new items are unknown; "
            "remove the array, or add the items yourself"
        )
    if old[key].shape[1:] != new[key].shape[1:]:
        raise DataRefusedError(
            f"the {modality.nouns.many} in {delivery.name} are {new[key].shape[1:]}, those in "
            f"{dataset} {old[key].shape[1:]}; expected the same shape"
        )


def _optional(key: str, old: dict[str, Any], new: dict[str, Any], keep: Any, take: Any) -> Any:
    """Groups or splits of both files, as text; '' where a file has none."""
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
