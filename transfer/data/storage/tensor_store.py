"""Pictures of a scanned dataset: few are kept in memory, many are read from disk when asked for.

A file that is mapped into memory counts as the process's own as far as it was looked at, so the
pictures are read with positional reads into a new tensor each time: memory holds what was asked
for, and the system's file cache, which gives way to programs, holds the rest.
Shapes: N pictures, C channels, H x W pixels.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer.core.errors import DataRefusedError
from transfer.data.storage.row_index import Rows

IN_MEMORY = 2**26
"""Bytes of pictures up to which a set of items is kept in memory."""
_DENSE = 4  # a stretch of a file is read whole where at least one picture in so many is wanted


class ImageFile:
    """The pictures (N, C, H, W) of a scan, in its file. Threads may read at the same time."""

    def __init__(self, folder: Path) -> None:
        """Open a scan folder.

        Raises:
            DataRefusedError: the files are missing or disagree.
        """
        self.path, self.shape = folder / "images.u8", shape_of(folder)
        self._file = self.path.open("rb", buffering=0)
        self._size = int(np.prod(self.shape[1:]))

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Pictures (M, C, H, W) of M rows, in their order.

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

    def _empty(self, n: int) -> NDArray[np.uint8]:
        return np.empty((n, *self.shape[1:]), np.uint8)

    def _fill(self, found: NDArray[np.uint8], start: int, end: int, row: int) -> None:
        waiting, offset = found[start:end].data.cast("B"), row * self._size
        while waiting:
            read = os.preadv(self._file.fileno(), [waiting], offset)
            if not read:
                raise DataRefusedError(f"{self.path} ends before row {row}; scan it again")
            waiting, offset = waiting[read:], offset + read


class _Held:
    """Pictures in memory, read like a file of them."""

    def __init__(self, images: Tensor) -> None:
        self._images, self.shape = images, tuple(images.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = self._images.numpy()[rows]
        return found

    def identity(self) -> str:
        return content(self._images)


class DiskImages:
    """Pictures (N, C, H, W) uint8 on disk, of one scan or several; used like a tensor of them."""

    def __init__(self, files: Sequence[ImageFile | _Held], rows: NDArray[np.integer]) -> None:
        """Choose pictures.

        Args:
            files: with pictures of one shape.
            rows: (N,) among the pictures of all files, one file after the other.
        """
        self._files, self._rows = tuple(files), Rows(rows, [len(file) for file in files])
        self.shape = torch.Size((len(rows), *files[0].shape[1:]))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Read pictures (M, C, H, W): row numbers, N booleans or a slice."""
        wanted = self._rows[rows if isinstance(rows, slice) else rows.cpu().numpy()]
        if len(self._files) == 1:
            return torch.from_numpy(self._files[0].read(wanted.numbers))
        found = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        for k, own, rows_within in wanted.by_table():
            found[own] = self._files[k].read(rows_within)
        return torch.from_numpy(found)

    def split(self, size: int) -> Iterator[Tensor]:
        """Read the pictures in order, so many at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def take(self, rows: NDArray[np.integer]) -> "DiskImages":
        """Choose among them, and read nothing."""
        return DiskImages(self._files, self._rows.numbers[rows])

    def digest(self) -> str:
        """A hash of which pictures these are, without reading them."""
        found = hashlib.sha256("\n".join(one.identity() for one in self._files).encode())
        found.update(self._rows.numbers.tobytes())
        return found.hexdigest()

    @classmethod
    def joined(cls, parts: Sequence["DiskImages"]) -> "DiskImages":
        """The pictures of several, one after the other."""
        files = [file for part in parts for file in part._files]
        return cls(files, Rows.joined([part._rows for part in parts]).numbers)


Images = Tensor | DiskImages
"""Pictures (N, C, H, W) uint8."""


def _dense(rows: NDArray[np.integer]) -> bool:
    span = int(rows[-1] - rows[0])
    return len(rows) <= span + 1 <= _DENSE * len(rows) and bool((np.diff(rows) > 0).all())


def shape_of(folder: Path) -> tuple[int, ...]:
    """Shape (N, C, H, W) of the pictures of a scan.

    Raises:
        DataRefusedError: the files are missing or disagree.
    """
    path = folder / "images.u8"
    try:
        shape = tuple(json.loads((folder / "scan.json").read_text(encoding="utf-8"))["shape"])
        size = path.stat().st_size
    except (OSError, ValueError, KeyError) as error:
        raise DataRefusedError(f"{folder} holds no scan ({error}); scan it again") from error
    if size != int(np.prod(shape)):
        raise DataRefusedError(
            f"{path} has {size} bytes; expected {int(np.prod(shape))} for {shape}; scan it again"
        )
    return shape


def on_disk(folder: Path) -> DiskImages:
    """All pictures of a scan, left on disk.

    Raises:
        DataRefusedError: the files are missing or disagree.
    """
    file = ImageFile(folder)
    return DiskImages([file], np.arange(len(file)))


def some(folder: Path, rows: NDArray[np.integer]) -> Images:
    """Some pictures of a scan: in memory where they take up to `IN_MEMORY` bytes.

    Raises:
        DataRefusedError: the files are missing or disagree.
    """
    found = DiskImages([ImageFile(folder)], rows)
    return found[:] if found.shape.numel() <= IN_MEMORY else found


def taken(images: Images, rows: NDArray[np.integer]) -> Images:
    """Choose pictures; those on disk stay there."""
    return images.take(rows) if isinstance(images, DiskImages) else images[torch.from_numpy(rows)]


def cat(parts: Sequence[Images]) -> Images:
    """The pictures of several sets, one after the other; on disk where one of them is."""
    if not any(isinstance(part, DiskImages) for part in parts):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return DiskImages.joined([p if isinstance(p, DiskImages) else held(p) for p in parts])


def held(images: Tensor) -> DiskImages:
    """Pictures in memory, to stand among others that are on disk."""
    return DiskImages([_Held(images)], np.arange(len(images)))


def content(images: Images) -> str:
    """A hash that differs where the pictures do."""
    if isinstance(images, DiskImages):
        return images.digest()
    return hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()
