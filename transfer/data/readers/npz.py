"""An .npz file of decoded items: their array, labels, class_names, optionally groups and split.

The array's name and shape are the modality's, such as ``images``. Shapes: N items, K classes.
"""

import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from transfer.core.errors import DataRefusedError
from transfer.data.readers.listing import Entry, Listing, check_spelling
from transfer.data.splits.assignment import SIDES
from transfer.modalities.interface import InputLimits, Modality, UnexpectedArrayError

LABELS = ("labels", "class_names")
OPTIONAL = ("groups", "split")


@dataclass(frozen=True)
class Arrays:
    """The contents of an .npz file; row i belongs to entry i."""

    listing: Listing
    rows: NDArray[Any]  # N x ..., as `Modality.check_array` accepts them


def needed(modality: Modality) -> tuple[str, ...]:
    """Names of the arrays that a dataset of a modality must have."""
    return (modality.array_key, *LABELS)


def load_arrays(file: Path, limits: InputLimits, modality: Modality) -> Arrays:
    """Read and check an .npz file. Ids are ``<file name>#<row>``; class names are NFC-normalised.

    Raises:
        DataRefusedError: the file is unreadable, needs pickle, unpacks to too many bytes, lacks an
            array, or an array has another type, shape or range than expected.
    """
    required = needed(modality)
    arrays = _load(file, limits, required)
    rows, labels, names = (arrays[key] for key in required)
    _check_rows(file, rows, limits, modality)
    n = len(rows)
    class_names = _class_names(file, names)
    _check_labels(file, labels, n, len(class_names))
    groups = _optional(file, arrays, "groups", n)
    splits = _optional(file, arrays, "split", n)
    if odd := sorted(set(splits) - {*SIDES, ""}):
        raise _refused(file, "split", f"holds {odd[:5]}", f"{', '.join(SIDES)} or ''")
    entries = [
        Entry(name, file, class_names[label], groups[i], splits[i])
        for i, (name, label) in enumerate(zip(row_ids(file, n), labels.tolist(), strict=True))
    ]
    return Arrays(Listing(class_names, entries, []), rows)


def load_rows(file: Path, limits: InputLimits, modality: Modality) -> NDArray[Any]:
    """Read and check the items (N, ...) of an .npz file, which may have no labels.

    Raises:
        DataRefusedError: as `load_arrays`.
    """
    rows = _load(file, limits, (modality.array_key,))[modality.array_key]
    _check_rows(file, rows, limits, modality)
    return rows


def row_ids(file: Path, n: int) -> list[str]:
    """Names of the n items of an .npz file: ``<file name>#<row>``."""
    width = max(6, len(str(n - 1)))
    return [f"{file.name}#{i:0{width}d}" for i in range(n)]


def header(file: Path, array: str) -> tuple[tuple[int, ...], str] | None:
    """Shape and type of an array, read from its header only; None if there is no header."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open(f"{array}.npy") as member:
            old = npy.read_magic(member) == (1, 0)
            read = npy.read_array_header_1_0 if old else npy.read_array_header_2_0
            shape, _, dtype = read(member)
            return shape, str(dtype)
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile):
        return None


def _refused(file: Path, array: str, actual: str, expected: str) -> DataRefusedError:
    return DataRefusedError(f"{file}: array {array!r} {actual}; expected {expected}")


def _load(file: Path, limits: InputLimits, required: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > limits.max_array_bytes:
            allowed = f"expected at most {limits.max_array_bytes} (max_array_bytes)"
            raise DataRefusedError(f"{file} unpacks to {size} bytes; {allowed}")
        with np.load(file, allow_pickle=False) as stored:
            _check_names(file, stored.files, required)
            used = (*required, *LABELS, *OPTIONAL)
            return {name: stored[name] for name in stored.files if name in used}
    except DataRefusedError:
        raise
    except Exception as error:  # zlib, zipfile and NumPy raise any error for a damaged archive
        raise DataRefusedError(
            f"{file} is not a readable .npz file without pickled objects: {error}; write it with "
            "numpy.savez from arrays of numbers and strings"
        ) from error


def _check_names(file: Path, names: list[str], required: Sequence[str]) -> None:
    if missing := [name for name in required if name not in names]:
        raise DataRefusedError(
            f"{file} lacks the array {' and '.join(missing)}; found {', '.join(names) or 'none'}; "
            f"expected {', '.join(required)} and optionally {', '.join(OPTIONAL)}"
        )
    check_spelling(str(file), names, OPTIONAL)


def _check_rows(file: Path, rows: NDArray[Any], limits: InputLimits, modality: Modality) -> None:
    try:
        modality.check_array(rows, limits)
    except UnexpectedArrayError as error:
        raise _refused(file, modality.array_key, error.found, error.expected) from error


def _check_labels(file: Path, labels: NDArray[Any], n: int, k: int) -> None:
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        actual = f"is {labels.dtype} {labels.shape}"
        raise _refused(file, "labels", actual, f"integers ({n},), one per item")
    if n and (labels.min() < 0 or labels.max() >= k):
        actual = f"has values from {labels.min()} to {labels.max()}"
        raise _refused(file, "labels", actual, f"0 to {k - 1}, rows of class_names")


def _class_names(file: Path, names: NDArray[Any]) -> tuple[str, ...]:
    if names.dtype.kind != "U" or names.ndim != 1 or not names.size:
        raise _refused(file, "class_names", f"is {names.dtype} {names.shape}", "strings (K,)")
    normalised = tuple(unicodedata.normalize("NFC", name) for name in names.tolist())
    if len(set(normalised)) < len(normalised) or "" in normalised:
        raise _refused(file, "class_names", f"is {list(normalised)}", "different names, none empty")
    return normalised


def _optional(file: Path, arrays: Mapping[str, NDArray[Any]], name: str, n: int) -> list[str]:
    if name not in arrays:
        return [""] * n
    values = arrays[name]
    if values.dtype.kind not in "iuU" or values.shape != (n,):
        actual = f"is {values.dtype} {values.shape}"
        raise _refused(file, name, actual, f"strings or integers ({n},), one per item")
    return [str(value) for value in values.tolist()]
