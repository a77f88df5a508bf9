"""Records of a scanned dataset: few are kept in memory, many are read from disk when asked for.

A file that is mapped into memory counts as the process's own as far as it was looked at, so the
records are read with positional reads into a new tensor each time: memory holds what was asked
for, and the system's file cache, which gives way to programs, holds the rest.
A record is an array of one shape and type, the same for all items; see ``scan.json``.
Shapes: N records, ... the shape of one.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer.core.errors import DataRefusedError
from transfer.data.storage.row_index import Rows
from transfer.modalities import lookup
from transfer.modalities.interface import InputSpec

RECORDS, FACTS = "records.bin", "scan.json"
"""Files of a scan: all records, and their shape, type and specification."""
IN_MEMORY = 2**26
"""Bytes of records up to which a set of items is kept in memory."""
_DENSE = 4  # a stretch of a file is read whole where at least one record in so many is wanted


class RecordFile:
    """The records (N, ...) of a scan, in its file. Threads may read at the same time."""

    def __init__(self, folder: Path) -> None:
        """Open a scan folder.

        Raises:
            DataRefusedError: the files are missing or disagree.
        """
        self.path, self.shape = folder / RECORDS, layout_of(folder)[0]
        self._file = self.path.open("rb", buffering=0)
        self.dtype = layout_of(folder)[1]
        self._size = int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Records (M, ...) of M rows, in their order.

        Raises:
            DataRefusedError: the file became shorter.
        """
        if len(rows) > 1 and _dense(rows):
            found = self._empty(int(rows[-1] - rows[0]) + 1)
            self._fill(found, 0, len(found), int(rows[0]))
            return found[rows - rows[0]]
        found = self._empty(len(rows))
        for place, row in enumerate(rows.tolist()):
            self._fill(found, place, place + 1, row)
        return found

    def identity(self) -> str:
        """What tells this file from another, without reading it."""
        told = os.fstat(self._file.fileno())
        return f"{self.path.absolute()} {told.st_ino} {told.st_size} {told.st_mtime_ns}"

    def _empty(self, n: int) -> NDArray[Any]:
        return np.empty((n, *self.shape[1:]), self.dtype)

    def _fill(self, found: NDArray[Any], start: int, end: int, row: int) -> None:
        waiting, offset = found[start:end].data.cast("B"), row * self._size
        while waiting:
            read = os.preadv(self._file.fileno(), [waiting], offset)
            if not read:
                raise DataRefusedError(f"{self.path} ends before row {row}; scan it again")
            waiting, offset = waiting[read:], offset + read


class _Held:
    """Records in memory, read like a file of them."""

    def __init__(self, records: Tensor) -> None:
        self._records, self.shape = records.numpy(), tuple(records.shape)
        self.dtype = self._records.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        found: NDArray[Any] = self._records[rows]
        return found

    def identity(self) -> str:
        return content(torch.from_numpy(self._records))


class DiskRecords:
    """Records (N, ...) on disk, of one scan or several; used like a tensor of them."""

    def __init__(self, files: Sequence[RecordFile | _Held], rows: NDArray[np.integer]) -> None:
        """Choose records.

        Args:
            files: with records of one shape and type.
            rows: (N,) among the records of all files, one file after the other.
        """
        self._files, self._rows = tuple(files), Rows(rows, [len(file) for file in files])
        self.shape = torch.Size((len(rows), *files[0].shape[1:]))
        self.dtype = files[0].dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Read records (M, ...): row numbers, N booleans or a slice."""
        wanted = self._rows[rows if isinstance(rows, slice) else rows.cpu().numpy()]
        if len(self._files) == 1:
            return torch.from_numpy(self._files[0].read(wanted.numbers))
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        for k, own, rows_within in wanted.by_table():
            found[own] = self._files[k].read(rows_within)
        return torch.from_numpy(found)

    def split(self, size: int) -> Iterator[Tensor]:
        """Read the records in order, so many at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def take(self, rows: NDArray[np.integer]) -> "DiskRecords":
        """Choose among them, and read nothing."""
        return DiskRecords(self._files, self._rows.numbers[rows])

    def digest(self) -> str:
        """A hash of which records these are, without reading them."""
        found = hashlib.sha256("\n".join(one.identity() for one in self._files).encode())
        found.update(self._rows.numbers.tobytes())
        return found.hexdigest()

    @classmethod
    def joined(cls, parts: Sequence["DiskRecords"]) -> "DiskRecords":
        """The records of several, one after the other."""
        files = [file for part in parts for file in part._files]
        return cls(files, Rows.joined([part._rows for part in parts]).numbers)


Records = Tensor | DiskRecords
"""Records (N, ...) as stored."""


def _dense(rows: NDArray[np.integer]) -> bool:
    span = int(rows[-1] - rows[0])
    return len(rows) <= span + 1 <= _DENSE * len(rows) and bool((np.diff(rows) > 0).all())


def layout_of(folder: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape (N, ...) and type of the records of a scan.

    Raises:
        DataRefusedError: the files are missing or disagree.
    """
    path = folder / RECORDS
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        shape, dtype = tuple(facts["shape"]), np.dtype(facts["dtype"])
        size = path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataRefusedError(f"{folder} holds no scan ({error}); scan it again") from error
    if size != (expected := int(np.prod(shape)) * dtype.itemsize):
        raise DataRefusedError(
            f"{path} has {size} bytes; expected {expected} for {shape} {dtype}; scan it again"
        )
    return shape, dtype


def spec_of(folder: Path) -> InputSpec:
    """What the items of a scan were turned into.

    Raises:
        DataRefusedError: the folder holds no scan.
    """
    try:
        return lookup.parsed_spec(json.loads((folder / FACTS).read_text(encoding="utf-8"))["spec"])
    except (OSError, ValueError, KeyError) as error:
        raise DataRefusedError(f"{folder} holds no scan ({error}); scan it again") from error


def on_disk(folder: Path) -> DiskRecords:
    """All records of a scan, left on disk.

    Raises:
        DataRefusedError: the files are missing or disagree.
    """
    file = RecordFile(folder)
    return DiskRecords([file], np.arange(len(file)))


def some(folder: Path, rows: NDArray[np.integer]) -> Records:
    """Some records of a scan: in memory where they take up to `IN_MEMORY` bytes.

    Raises:
        DataRefusedError: the files are missing or disagree.
    """
    found = DiskRecords([RecordFile(folder)], rows)
    return found[:] if found.shape.numel() <= IN_MEMORY else found


def taken(records: Records, rows: NDArray[np.integer]) -> Records:
    """Choose records; those on disk stay there."""
    if isinstance(records, DiskRecords):
        return records.take(rows)
    return records[torch.from_numpy(rows)]


def cat(parts: Sequence[Records]) -> Records:
    """The records of several sets, one after the other; on disk where one of them is."""
    if not any(isinstance(part, DiskRecords) for part in parts):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return DiskRecords.joined([p if isinstance(p, DiskRecords) else held(p) for p in parts])


def held(records: Tensor) -> DiskRecords:
    """Records in memory, to stand among others that are on disk."""
    return DiskRecords([_Held(records)], np.arange(len(records)))


def content(records: Records) -> str:
    """A hash that differs where the records do."""
    if isinstance(records, DiskRecords):
        return records.digest()
    return hashlib.sha256(records.contiguous().numpy().tobytes()).hexdigest()
