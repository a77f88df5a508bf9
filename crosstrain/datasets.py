"""Data in memory as a dataset of the chain: files named by their content, in the project."""

import hashlib
import io
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.core.atomic_files import write_atomic
from transfer.core.errors import DataRefusedError, SettingsError

if TYPE_CHECKING:
    from pandas import DataFrame

    Data = str | PathLike[str] | DataFrame | tuple[Any, Any] | Mapping[str, Any]

PLACE = Path("build/python")
"""Folder in the project: written again from the same data, and so safe to delete."""


def located(data: "Data", name: str, array_key: str, before: Path) -> Path:
    """Path of a dataset; a dataset in memory is written first.

    Args:
        data: a path; ``(items, labels)``, arrays of one row per item; a mapping of the arrays of an
            ``.npz`` dataset; or a table with the columns of a manifest, whose paths are absolute or
            relative to ``before``.
        name: of the dataset; the last part of the path of the written file.
        array_key: name of the array of items in an ``.npz`` dataset of this kind of input.
        before: folder to which relative paths refer.

    Raises:
        DataRefusedError: the data is none of these, or lacks labels, paths or columns.
        SettingsError: data in memory was given without a name.
    """
    if isinstance(data, str | PathLike):
        return before / Path(data).expanduser()
    if not name:
        raise SettingsError(
            f"found data in memory ({type(data).__name__}) without a name; expected a name, "
            "which reports and the registry use: name='plants' for the target, "
            "source_name='animals' for the source"
        )
    if isinstance(data, tuple) and len(data) == 2:
        return _arrays({array_key: data[0], **_classes(data[1])}, name)
    if isinstance(data, Mapping):
        return _arrays(dict(data), name)
    if hasattr(data, "columns"):
        return _table(data, name, before)
    raise DataRefusedError(
        f"found a {type(data).__name__} as data; expected a path, (items, labels), a mapping of "
        "the arrays of an .npz dataset, or a table with the columns path and label"
    )


def _classes(labels: Any) -> dict[str, Any]:
    """Arrays ``labels`` and ``class_names`` of labels of any kind, (N,)."""
    import numpy as np

    values = np.asarray(labels)
    if values.ndim != 1 or values.dtype.kind not in "iuUOb" or not len(values):
        raise DataRefusedError(
            f"found labels of {values.dtype} and shape {values.shape}; expected strings or "
            "integers (N,), one per item"
        )
    names, numbers = np.unique(values.astype(str), return_inverse=True)
    return {"labels": numbers.astype(np.int64), "class_names": names}


def _arrays(arrays: dict[str, Any], name: str) -> Path:
    import numpy as np

    buffer = io.BytesIO()
    whole: dict[str, Any] = {key: np.asarray(value) for key, value in arrays.items()}
    np.savez(buffer, **whole)
    content = buffer.getvalue()
    place = _place(hashlib.sha256(content).hexdigest()) / f"{name}.npz"
    if not place.exists():
        write_atomic(place, content)
    return place.absolute()


def _table(table: "DataFrame", name: str, before: Path) -> Path:
    """Write a manifest, and beside it the files that it names."""
    if "path" not in table.columns:
        raise DataRefusedError(
            f"found a table with the columns {', '.join(map(str, table.columns))}; expected path, "
            "label, and if wanted group and split"
        )
    files = [before / Path(str(path)).expanduser() for path in table["path"]]
    try:
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    except OSError as error:
        raise DataRefusedError(f"{error.filename} cannot be read: {error.strerror}") from error
    pairs = zip(digests, files, strict=True)
    manifest = table.assign(
        path=[f"files/{digest[:2]}/{digest}{file.suffix.lower()}" for digest, file in pairs]
    )
    text = manifest.to_csv(index=False)
    place = _place(hashlib.sha256(text.encode()).hexdigest())
    for inside, file in zip(manifest["path"], files, strict=True):
        if not (place / inside).exists():
            write_atomic(place / inside, file.read_bytes())
    write_atomic(place / f"{name}.csv", text.encode())
    return (place / f"{name}.csv").absolute()


def _place(digest: str) -> Path:
    return PLACE / digest[:32]
