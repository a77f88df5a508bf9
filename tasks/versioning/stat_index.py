"""An index of the md5 and stat of a folder's files: an unchanged file is not read again.

The index is a list of lines in the order of a sorted walk, with a hash of itself in the last line.
It is read and written during the walk and never held in memory. It is only a cache: if it is
missing or damaged, the files are read.

As in Git, an entry is not trusted if its file was changed shortly before it was read ("racily
clean"): the file can change again within the same tick of the clock, with the same stat.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tasks.runtime import paths

RACY = 2_000_000_000
"""Nanoseconds for which a file must be unchanged: the coarsest clock of a file system."""
MD5 = partial(hashlib.md5, usedforsecurity=False)

Stat = tuple[
    int, int, int, int, int
]  # device, inode, size, time of the last change of content, of any change
Entry = tuple[str, Stat, str, bytes]  # path in the folder, stat, md5, the line itself


class StatIndex:
    """The index of one folder, for one walk through it in ascending order of paths."""

    def __init__(self, folder: Path) -> None:
        """Open the index of a folder; without a folder ``build/``, no index is written."""
        name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()
        self.file = paths.BUILD / "stat" / f"{name}.jsonl"
        self._new = self.file.with_name(f".{name}.{os.getpid()}.tmp")
        self._old: Iterator[Entry] = iter(())
        self._next: Entry | None = None
        self._changed, self._digest = False, hashlib.blake2b()
        self._out: BinaryIO | None = None

    def __enter__(self) -> "StatIndex":
        if paths.BUILD.is_dir():
            self.file.parent.mkdir(exist_ok=True)
            self._out = self._new.open("wb")
        if self._out and _is_intact(self.file):
            self._old = _entries(self.file)
        self._changed = not self.file.exists()
        self._next = next(self._old, None)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        _: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        if self._out is None:
            return
        with self._out:
            self._out.write(self._digest.hexdigest().encode() + b"\n")
        if error_type is None and (self._changed or self._next is not None):
            self._new.replace(self.file)
        else:
            self._new.unlink()

    def md5(self, name: str, path: str) -> str | None:
        """The md5 of a file, which is read only if its stat has changed.

        '' if it cannot be read or is not a regular file (reading a named pipe would never end),
        None for a link to a folder.
        """
        while self._next is not None and self._next[0] < name:
            self._next, self._changed = next(self._old, None), True
        entry = None
        if self._next is not None and self._next[0] == name:
            entry, self._next = self._next, next(self._old, None)
        try:
            status = os.stat(path)  # noqa: PTH116  # a Path costs as much again
        except OSError:
            return ""
        if entry is not None and entry[1] == _stat_fields(status):
            self._keep(entry[3])
            return entry[2]
        if stat.S_ISDIR(status.st_mode) and Path(path).is_symlink():
            return None
        self._changed = True
        return self._read(name, path) if stat.S_ISREG(status.st_mode) else ""

    def _read(self, name: str, path: str) -> str:
        try:
            with Path(path).open("rb") as file:
                before = _stat_fields(os.fstat(file.fileno()))
                md5 = hashlib.file_digest(file, MD5).hexdigest()
                after = _stat_fields(os.fstat(file.fileno()))
        except OSError:
            return ""
        if before == after and max(after[3:]) < time.time_ns() - RACY:
            self._keep(json.dumps((name, after, md5)).encode() + b"\n")
        return md5

    def _keep(self, line: bytes) -> None:
        if self._out is not None:
            self._digest.update(line)
            self._out.write(line)


def _stat_fields(status: os.stat_result) -> Stat:
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_dev, status.st_ino, status.st_size, *times


def _is_intact(file: Path) -> bool:
    """Whether an index exists and is complete and unchanged."""
    digest, last = hashlib.blake2b(), b""
    try:
        with file.open("rb") as lines:
            for line in lines:
                digest.update(last)
                last = line
    except OSError:
        return False
    return last == digest.hexdigest().encode() + b"\n"


def _entries(file: Path) -> Iterator[Entry]:
    with file.open("rb") as lines:
        for line in lines:
            if line.startswith(b"["):
                name, status, md5 = json.loads(line)
                yield name, tuple(status), md5, line
