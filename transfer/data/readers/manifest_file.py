"""A manifest file, CSV or Parquet: columns path and label, optionally group and split."""

import csv
import math
import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from transfer.core.errors import DataRefusedError
from transfer.data.readers.listing import Entry, Listing, Reject, check_spelling, check_suffix
from transfer.data.splits.assignment import SIDES
from transfer.modalities.interface import Modality

NEEDED = ("path", "label")
OPTIONAL = ("group", "split")
_ENCODING = "utf-8-sig"


def list_table(file: Path, modality: Modality, *, need_labels: bool = True) -> Listing:
    """List the rows of a manifest; paths are relative to its folder, other columns are ignored.

    Values are text as written: 03 stays 03, NA is a name. Spaces around values are removed, except
    around paths.

    Rejects: missing (no path), no_label (where labels are needed), bad_split, path_escape, symlink,
    duplicate_path, bad_name (a control character 0), wrong_type.

    Raises:
        DataRefusedError: the file is unreadable or lacks a column.
    """
    rows = _read(file, NEEDED)
    reject = _checker(file.parent, modality, need_labels)
    entries: dict[str, Entry] = {}
    rejects: list[Reject] = []
    for number, row in enumerate(rows, 1):
        entry = _entry(file.parent, row)
        if (bad := reject(row, entry)) is None and entry.id not in entries:
            entries[entry.id] = entry
            continue
        rejects.append(bad or _repeated(entry, entries[entry.id], number))
    labels = {entry.label for entry in entries.values()}
    return Listing(tuple(sorted(labels)), [entries[id_] for id_ in sorted(entries)], rejects)


def list_paths(file: Path, modality: Modality) -> Iterator[Entry | Reject]:
    """List the files in the column ``path``, in the order of rows; no other column is needed.

    Rejects: missing (no path), bad_name, path_escape, symlink, wrong_type.

    Raises:
        DataRefusedError: the file is unreadable or lacks the column.
    """
    root, real = _real(file.parent), lru_cache(maxsize=None)(_real)
    for number, row in enumerate(_read(file, ("path",)), 1):
        if not row["path"]:
            yield Reject("", "missing", f"row {number} has no path")
            continue
        entry = _entry(file.parent, row)
        yield _unfit(root, real, row["path"], entry, modality) or entry


def _entry(folder: Path, row: dict[str, str]) -> Entry:
    inside = posixpath.normpath(row["path"]) if row["path"] else ""
    label = unicodedata.normalize("NFC", row["label"])
    return Entry(inside, folder / inside, label, row["group"], row["split"])


def _repeated(entry: Entry, first: Entry, number: int) -> Reject:
    other = "" if entry.label == first.label else f" as {entry.label!r}, first as {first.label!r}"
    return Reject(entry.id, "duplicate_path", f"row {number} names it again{other}")


def _checker(
    folder: Path, modality: Modality, need_labels: bool
) -> Callable[[dict[str, str], Entry], Reject | None]:
    root = _real(folder)
    real = lru_cache(maxsize=None)(_real)

    def check(row: dict[str, str], entry: Entry) -> Reject | None:
        where = row["path"]
        if not where:
            return Reject("", "missing", f"a row labelled {entry.label!r} has no path")
        if bad := _unfit(root, real, where, entry, modality):
            return bad
        if need_labels and not entry.label:
            return Reject(where, "no_label", "its label is empty")
        if entry.split and entry.split not in SIDES:
            expected = f"expected {', '.join(SIDES)} or nothing"
            return Reject(where, "bad_split", f"its split is {entry.split!r}; {expected}")
        return None

    return check


def _unfit(
    root: Path, real: Callable[[Path], Path], where: str, entry: Entry, modality: Modality
) -> Reject | None:
    if "\0" in where:
        return Reject(where, "bad_name", "the path holds a NUL character")
    return _outside(root, real, entry.id) or check_suffix(entry.id, modality)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike Path.resolve, it accepts a link to itself


def _outside(root: Path, real: Callable[[Path], Path], inside: str) -> Reject | None:
    plain = root / inside
    target = real(plain.parent) / plain.name
    if target.is_symlink():
        target = _real(target)
    if posixpath.isabs(inside) or not target.is_relative_to(root):
        return Reject(inside, "path_escape", "it leads out of the manifest's folder")
    if target != plain:
        return Reject(inside, "symlink", "links are not followed; copy the file or folder here")
    return None


def _read(file: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    read = _read_csv if file.suffix.lower() == ".csv" else _read_parquet
    return read(file, needed)


def _read_csv(file: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    try:
        with file.open(encoding=_ENCODING, newline="") as text:
            lines = [line for line in csv.reader(text, strict=True) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataRefusedError(f"{file} is not a readable UTF-8 CSV file: {error}") from error
    header = [name.strip() for name in lines[0]] if lines else []
    _check_columns(file, header, needed)
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(header):
            raise DataRefusedError(
                f"{file}: row {number} has {len(line)} fields, expected {len(header)} as in the "
                "first line; put quotes around a field that holds a comma"
            )
    return [_row(dict(zip(header, line, strict=True))) for line in lines[1:]]


def _read_parquet(file: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file).read()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataRefusedError(f"{file} is not a readable Parquet file: {error}") from error
    _check_columns(file, table.column_names, needed)
    kept = [name for name in table.column_names if name in NEEDED + OPTIONAL]
    return [_row(row) for row in table.select(kept).to_pylist()]


def _check_columns(file: Path, header: list[str], needed: Sequence[str]) -> None:
    columns = ", ".join(header) or "nothing"
    if missing := [name for name in needed if name not in header]:
        raise DataRefusedError(
            f"{file} lacks the column {' and '.join(missing)}; found {columns}, separated by "
            f"commas; expected {', '.join(needed)} and optionally {' and '.join(OPTIONAL)}"
        )
    if len(set(header)) < len(header):
        raise DataRefusedError(f"{file} has two columns of one name: {columns}; remove one")
    check_spelling(str(file), header, OPTIONAL)


def _row(values: dict[str, Any]) -> dict[str, str]:
    row = {name: _text(values.get(name)) for name in NEEDED + OPTIONAL}
    return {name: text if name == "path" else text.strip() for name, text in row.items()}


def _text(value: Any) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value)
