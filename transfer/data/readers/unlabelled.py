"""Items that need no label: a folder at any depth, the paths of a manifest file, or arrays.

All items are listed in a fixed order; an item that cannot be used is listed as a `Reject` in its
place.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transfer.core.errors import DataRefusedError
from transfer.data.readers import npz
from transfer.data.readers.class_folders import walk
from transfer.data.readers.listing import Entry, Reject, read
from transfer.data.readers.manifest_file import list_paths
from transfer.modalities.interface import InputLimits, Modality

KINDS = "a folder of files, or a .csv, .parquet or .npz file"


@dataclass(frozen=True)
class Item:
    """An item of the input, or its reject."""

    id: str
    """Path inside the folder, '/' separated, or ``<file>#<row>``."""
    content: Path | NDArray[Any] | Reject
    """A file to read, a row of an array, or why it cannot be used."""

    def stamp(self) -> str:
        """A text that differs when the content may have changed; files are not read."""
        if isinstance(self.content, Reject):
            return f"{self.id}\0{self.content.reason}\0{self.content.detail}"
        if isinstance(self.content, Path):
            return f"{self.id}\0{_stamp(self.content)}"
        return self.id

    def load(self, limits: InputLimits) -> bytes | NDArray[Any]:
        """The bytes of a file, or a row of an array.

        Raises:
            Unreadable: the file cannot be read.
        """
        if isinstance(self.content, Path):
            return read(self.content, limits)
        if isinstance(self.content, Reject):
            raise TypeError(f"{self.id} was rejected and has no content")
        return self.content


@dataclass(frozen=True)
class Unlabelled:
    """A folder, manifest file or archive; it can be iterated more than once."""

    source: Path
    limits: InputLimits
    modality: Modality
    rows: NDArray[Any] | None
    stamp: str
    """Identifies the content where a single file contains all of it; else empty."""

    @classmethod
    def open(cls, source: Path, limits: InputLimits, modality: Modality) -> "Unlabelled":
        """Open a source of items, whose kind is detected; an .npz file is read completely.

        Raises:
            DataRefusedError: the source does not exist, is of another kind, or cannot be read.
        """
        suffix = source.suffix.lower()
        if source.is_file() and suffix == ".npz":
            rows = npz.load_rows(source, limits, modality)
            return cls(source, limits, modality, rows, _stamp(source))
        if source.is_dir() or (source.is_file() and suffix in (".csv", ".parquet")):
            return cls(source, limits, modality, None, "")
        problem = "is of another kind" if source.exists() else "does not exist"
        raise DataRefusedError(f"{source} {problem}; expected {KINDS}")

    def __iter__(self) -> Iterator[Item]:
        """Yield all items, one at a time; only the names of one folder are in memory at a time.

        Raises:
            DataRefusedError: the folder or the manifest cannot be read.
        """
        if self.rows is not None:
            names = npz.row_ids(self.source, len(self.rows))
            yield from map(Item, names, self.rows)
            return
        for entry in self._listed():
            if isinstance(entry, Entry):
                yield Item(entry.id, entry.path)
            else:
                yield Item(entry.path, entry)

    def _listed(self) -> Iterator[Entry | Reject]:
        if not self.source.is_dir():
            return list_paths(self.source, self.modality)
        _check_readable(self.source)
        return walk(str(self.source), "", "", self.modality)


def _check_readable(folder: Path) -> None:
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise DataRefusedError(f"{folder} cannot be read: {error.strerror}") from error


def _stamp(file: Path) -> str:
    try:
        status = file.lstat()
    except OSError as error:
        return f"{error.errno}"
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
