"""An .npz file of decoded images: arrays images, labels, class_names, and if wanted groups, split.

Shapes: N images, H x W pixels, C channels, K classes.
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
from transfer.modalities.image.decode import check_size
from transfer.modalities.image.spec import ImageLimits, Unreadable

NEEDED = ("images", "labels", "class_names")
OPTIONAL = ("groups", "split")


@dataclass(frozen=True)
class Arrays:
    """The contents of an .npz file; image i belongs to entry i."""

    listing: Listing
    images: NDArray[np.uint8]  # N x H x W, or N x H x W x C with C in 1, 3, 4


def load_arrays(file: Path, limits: ImageLimits) -> Arrays:
    """Read and check an .npz file. Ids are ``<file name>#<row>``; class names are NFC-normalised.

    Raises:
        DataRefusedError: the file is unreadable, needs pickle, unpacks to too many bytes, lacks an
            array, or an array has another type, shape or range than expected.
    """
    arrays = _load(file, limits, NEEDED)
    images, labels, names = (arrays[key] for key in NEEDED)
    _check_images(file, images, limits)
    n = len(images)
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
    return Arrays(Listing(class_names, entries, []), images)


def load_images(file: Path, limits: ImageLimits) -> NDArray[np.uint8]:
    """Read and check the images (N, H, W) or (N, H, W, C) of an .npz file that needs no labels.

    Raises:
        DataRefusedError: as `load_arrays`.
    """
    images = _load(file, limits, ("images",))["images"]
    _check_images(file, images, limits)
    return images


def row_ids(file: Path, n: int) -> list[str]:
    """Names of the n images of an .npz file: ``<file name>#<row>``."""
    width = max(6, len(str(n - 1)))
    return [f"{file.name}#{i:0{width}d}" for i in range(n)]


def stored_in_colour(file: Path) -> bool:
    """Say from the header whether images have colour channels; False if there is no header."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open("images.npy") as member:
            old = npy.read_magic(member) == (1, 0)
            read = npy.read_array_header_1_0 if old else npy.read_array_header_2_0
            shape = read(member)[0]
            return len(shape) == 4 and shape[3] >= 3
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile):
        return False


def _refused(file: Path, array: str, found: str, expected: str) -> DataRefusedError:
    return DataRefusedError(f"{file}: array {array!r} {found}; expected {expected}")


def _load(file: Path, limits: ImageLimits, needed: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > limits.max_array_bytes:
            allowed = f"expected at most {limits.max_array_bytes} (max_array_bytes)"
            raise DataRefusedError(f"{file} unpacks to {size} bytes; {allowed}")
        with np.load(file, allow_pickle=False) as stored:
            _check_names(file, stored.files, needed)
            return {name: stored[name] for name in stored.files if name in NEEDED + OPTIONAL}
    except DataRefusedError:
        raise
    except Exception as error:  # a damaged archive makes zlib, zipfile and NumPy raise anything
        raise DataRefusedError(
            f"{file} is no readable .npz file without pickled objects: {error}; write it with "
            "numpy.savez from arrays of numbers and strings"
        ) from error


def _check_names(file: Path, found: list[str], needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in found]:
        raise DataRefusedError(
            f"{file} lacks the array {' and '.join(missing)}; found {', '.join(found) or 'none'}; "
            f"expected {', '.join(needed)} and if wanted {', '.join(OPTIONAL)}"
        )
    check_spelling(str(file), found, OPTIONAL)


def _check_images(file: Path, images: NDArray[Any], limits: ImageLimits) -> None:
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3, 4))
    if images.dtype != np.uint8 or not shaped:
        nan = int(np.isnan(images).sum()) if images.dtype.kind == "f" else 0
        told = f" with {nan} NaN" if nan else ""
        expected = "uint8 from 0 to 255, N x H x W or N x H x W x 1, 3 or 4"
        raise _refused(file, "images", f"is {images.dtype} {images.shape}{told}", expected)
    try:
        check_size(images.shape[2], images.shape[1], limits)
    except Unreadable as error:
        raise _refused(file, "images", f"is {images.shape}", error.detail) from error


def _check_labels(file: Path, labels: NDArray[Any], n: int, k: int) -> None:
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        found = f"is {labels.dtype} {labels.shape}"
        raise _refused(file, "labels", found, f"integers ({n},), one an image")
    if n and (labels.min() < 0 or labels.max() >= k):
        found = f"runs from {labels.min()} to {labels.max()}"
        raise _refused(file, "labels", found, f"0 to {k - 1}, rows of class_names")


def _class_names(file: Path, names: NDArray[Any]) -> tuple[str, ...]:
    if names.dtype.kind != "U" or names.ndim != 1 or not names.size:
        raise _refused(file, "class_names", f"is {names.dtype} {names.shape}", "strings (K,)")
    plain = tuple(unicodedata.normalize("NFC", name) for name in names.tolist())
    if len(set(plain)) < len(plain) or "" in plain:
        raise _refused(file, "class_names", f"is {list(plain)}", "different names, none empty")
    return plain


def _optional(file: Path, arrays: Mapping[str, NDArray[Any]], name: str, n: int) -> list[str]:
    if name not in arrays:
        return [""] * n
    values = arrays[name]
    if values.dtype.kind not in "iuU" or values.shape != (n,):
        found = f"is {values.dtype} {values.shape}"
        raise _refused(file, name, found, f"strings or integers ({n},), one an image")
    return [str(value) for value in values.tolist()]
