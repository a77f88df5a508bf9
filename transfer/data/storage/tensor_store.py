"""Records of a scanned dataset: small sets are in memory, large sets are read when needed.

The pages of a memory-mapped file that were read count as the process's own memory. So records are
read with positional reads into a new tensor each time: the process holds only the requested
records, and the rest is in the system's file cache, which the system frees when programs need
memory. All records are arrays of the same shape and type; see ``scan.json``.

Shapes: N records, ... the shape of a record.
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
"""Largest size, in bytes of records, of a set of items that is kept in memory."""
_DENSE = 4  # a range of a file is read as a whole where at least one record in so many is requested


class RecordFile:
    """The records (N, ...) of a scan, in a file. Threads may read at the same time."""

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
        """Read the records (M, ...) of M rows, in the order of the rows.

        Raises:
            DataRefusedError: the file became shorter.
        """
        if len(rows) > 1 and _dense(rows):
            span = self._empty(int(rows[-1] - rows[0]) + 1)
            self._fill(span, 0, len(span), int(rows[0]))
            return span[rows - rows[0]]
        records = self._empty(len(rows))
        for i, row in enumerate(rows.tolist()):
            self._fill(records, i, i + 1, row)
        return records

    def identity(self) -> str:
        """A text that differs for different or changed files; the file is not read."""
        status = os.fstat(self._file.fileno())
        return f"{self.path.absolute()} {status.st_ino} {status.st_size} {status.st_mtime_ns}"

    def _empty(self, n: int) -> NDArray[Any]:
        return np.empty((n, *self.shape[1:]), self.dtype)

    def _fill(self, records: NDArray[Any], start: int, end: int, row: int) -> None:
        unfilled, offset = records[start:end].data.cast("B"), row * self._size
        while unfilled:
            read = os.preadv(self._file.fileno(), [unfilled], offset)
            if not read:
                raise DataRefusedError(f"{self.path} ends before row {row}; scan it again")
            unfilled, offset = unfilled[read:], offset + read


class _InMemory:
    """Records in memory, with the interface of `RecordFile`."""

    def __init__(self, records: Tensor) -> None:
        self._records, self.shape = records.numpy(), tuple(records.shape)
        self.dtype = self._records.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        records: NDArray[Any] = self._records[rows]
        return records

    def identity(self) -> str:
        return content(torch.from_numpy(self._records))


class DiskRecords:
    """Records (N, ...) on disk, of one scan or several; used like a tensor."""

    def __init__(self, files: Sequence[RecordFile | _InMemory], rows: NDArray[np.integer]) -> None:
        """Select records.

        Args:
            files: files whose records have the same shape and type.
            rows: (N,) row numbers in the concatenation of all files.
        """
        self._files, self._rows = tuple(files), Rows(rows, [len(file) for file in files])
        self.shape = torch.Size((len(rows), *files[0].shape[1:]))
        self.dtype = files[0].dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Read records (M, ...): row numbers, N booleans or a slice."""
        selected = self._rows[rows if isinstance(rows, slice) else rows.cpu().numpy()]
        if len(self._files) == 1:
            return torch.from_numpy(self._files[0].read(selected.numbers))
        records = np.empty((len(selected), *self.shape[1:]), self.dtype)
        for k, in_file, rows_within in selected.by_table():
            records[in_file] = self._files[k].read(rows_within)
        return torch.from_numpy(records)

    def split(self, size: int) -> Iterator[Tensor]:
        """Read the records in order, ``size`` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def take(self, rows: NDArray[np.integer]) -> "DiskRecords":
        """Select some of these records without reading them."""
        return DiskRecords(self._files, self._rows.numbers[rows])

    def digest(self) -> str:
        """A hash that identifies these records, computed without reading them."""
        digest = hashlib.sha256("\n".join(file.identity() for file in self._files).encode())
        digest.update(self._rows.numbers.tobytes())
        return digest.hexdigest()

    @classmethod
    def joined(cls, parts: Sequence["DiskRecords"]) -> "DiskRecords":
        """Concatenate several sets of records."""
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
    """The specification to which the items of a scan were converted.

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
    records = DiskRecords([RecordFile(folder)], rows)
    return records[:] if records.shape.numel() <= IN_MEMORY else records


def taken(records: Records, rows: NDArray[np.integer]) -> Records:
    """Select records; records on disk stay on disk."""
    if isinstance(records, DiskRecords):
        return records.take(rows)
    return records[torch.from_numpy(rows)]


def cat(parts: Sequence[Records]) -> Records:
    """Concatenate several sets of records; the result is on disk where any of them is."""
    if not any(isinstance(part, DiskRecords) for part in parts):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return DiskRecords.joined([p if isinstance(p, DiskRecords) else held(p) for p in parts])


def held(records: Tensor) -> DiskRecords:
    """Records in memory, in the type of records on disk, to be joined with them."""
    return DiskRecords([_InMemory(records)], np.arange(len(records)))


def content(records: Records) -> str:
    """A hash that differs for different records."""
    if isinstance(records, DiskRecords):
        return records.digest()
    return hashlib.sha256(records.contiguous().numpy().tobytes()).hexdigest()
