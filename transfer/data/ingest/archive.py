"""Unpack or copy an untrusted delivery into an empty folder.

A delivery has no influence on where its files are written. Every name is checked before its file is
written; links, devices and archives within archives are left out; sizes are limited while the
delivery is read, because the size that an archive states may be false.
"""

import bz2
import errno
import gzip
import lzma
import os
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, cast

from pydantic import Field

from transfer.core.config import Section
from transfer.core.errors import CrosstrainError, DataRefusedError
from transfer.data.readers.listing import Reject, unreadable

KINDS = ".zip, .tar, .tar.gz, .tgz, .tar.bz2, .tbz2, .tar.xz or .txz"
_TARS: dict[str, Callable[..., Any]] = {
    ".tar": open,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
}
_ARCHIVES = (".zip", *_TARS, ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".lzma")
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
_CHUNK = 2**20
_SMALL = 16 * 2**20  # bytes: below this size a high ratio does no harm
_HEADER = 4096  # most bytes of a tar file per entry, besides its content, that are not counted
_LONGEST_HEADER = 2**20
_LONGEST = 200  # bytes of one part of a path: leaves room for an added suffix
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class DeliveryLimits(Section):
    """Limits of a delivery; beyond any of them it is refused as a whole."""

    max_bytes: int = Field(10 * 2**30, ge=1)
    """Most bytes, unpacked."""
    max_files: int = Field(200_000, ge=1)
    """Most entries, including folders and links."""
    max_ratio: float = Field(200, gt=1)
    """Largest ratio of unpacked to packed size, checked from 16 MiB unpacked."""
    max_depth: int = Field(16, ge=2)
    """Most folders above a file; a file in deeper folders is rejected."""


def receive(incoming: Path, into: Path, limits: DeliveryLimits) -> list[Reject]:
    """Unpack an archive, or copy a folder or .npz file, into an empty folder.

    File names are NFC-normalised. Rejects: path_escape, bad_name, too_deep, name_clash (some
    systems treat the names of two files as the same), symlink, hardlink, device, sparse,
    nested_archive, damaged (one member of a .zip), permission and missing.

    Raises:
        DataRefusedError: `incoming` does not exist, is of an unsupported kind, damaged, encrypted,
            or beyond the limits.
        CrosstrainError: the disk is full.
    """
    destination = Destination(incoming, into, limits)
    with system_errors(incoming, into):
        if incoming.is_dir():
            _copy_folder(incoming, destination)
        elif incoming.suffix.lower() == ".npz" and incoming.is_file():
            with incoming.open("rb") as content:
                destination.put(incoming.name, content)
        else:
            _unpack(incoming, destination)
    return destination.rejects


@contextmanager
def system_errors(incoming: Path, into: Path) -> Iterator[None]:
    """Turn an error of the system into one that states whether the delivery or the disk caused it.

    Raises:
        DataRefusedError: the delivery cannot be read.
        CrosstrainError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CrosstrainError(
                f"there is no room for {incoming} in {into} ({error.strerror}); nothing of it was "
                "taken. Make room and run again"
            ) from error
        raise DataRefusedError(f"{incoming} cannot be read: {error}") from error


def checked(name: str, max_depth: int) -> str | Reject:
    r"""Turn an entry's name into a relative path, '/' separated and NFC, or reject it.

    Both '/' and '\' are separators, on every system.
    """
    shown = name.encode("utf-8", "backslashreplace").decode()
    if shown != name:
        return Reject(shown, "bad_name", "the name is not UTF-8; rename it")
    if any(unicodedata.category(c) == "Cc" for c in name):
        return Reject(repr(name)[1:-1], "bad_name", "the name holds a control character")
    plain = unicodedata.normalize("NFC", name.replace("\\", "/"))
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    drive = any(re.match(r"[A-Za-z]:", part) for part in parts)
    if plain.startswith("/") or drive or ".." in parts:
        return Reject(name, "path_escape", "it leads out of the delivery")
    if not parts or max(len(part.encode()) for part in parts) > _LONGEST:
        detail = f"a part of the name is empty or longer than {_LONGEST} bytes"
        return Reject(name, "bad_name", detail)
    if len(parts) > max_depth + 1:
        return Reject(name, "too_deep", f"below {len(parts) - 1} folders; at most {max_depth}")
    return "/".join(parts)


class Names:
    """Names in use; two names clash if any common file system treats them as the same.

    'A.png' and 'a.png' are the same file on macOS and Windows, and so are two Unicode spellings of
    the same letter; Windows drops dots and spaces at the end.
    """

    def __init__(self, used: Iterable[str] = ()) -> None:
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        for name in used:
            self.add(name)

    def add(self, name: str) -> None:
        """Add a name, and the names of the folders that contain it."""
        self._files.setdefault(_folded(name), name)
        for folder in _parents(name):
            self._folders.setdefault(_folded(folder), folder)

    def clash(self, name: str) -> str:
        """The name in use that clashes with `name` or one of its folders; '' if there is none."""
        key = _folded(name)
        if used := self._files.get(key) or self._folders.get(key):
            return used
        for folder in _parents(name):
            key = _folded(folder)
            if used := self._files.get(key):
                return used
            if (used := self._folders.get(key, folder)) != folder:
                return used
        return ""


def _folded(name: str) -> str:
    parts = (part.rstrip(". ") or part for part in name.split("/"))
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", "/".join(parts)).casefold())


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


@dataclass
class Destination:
    """The folder into which a delivery is unpacked, with its rejects and sizes so far."""

    source: Path
    folder: Path
    limits: DeliveryLimits
    rejects: list[Reject] = field(default_factory=list)
    entries: int = 0
    written: int = 0
    names: Names = field(default_factory=Names)

    def count(self) -> None:
        """Count one entry of any kind.

        Raises:
            DataRefusedError: the delivery has too many entries.
        """
        self.entries += 1
        if self.entries > self.limits.max_files:
            raise self._beyond(f"holds more than {self.limits.max_files} entries", "max_files")

    def check_size(self, size: int, allowance: int = 0) -> None:
        """Check a number of unpacked bytes.

        Raises:
            DataRefusedError: the bytes are too many, absolutely or for the size of the archive.
        """
        if size - allowance > self.limits.max_bytes:
            raise self._beyond(f"is more than {self.limits.max_bytes} bytes, unpacked", "max_bytes")
        packed = self.source.stat().st_size if self.source.is_file() else size
        if size > _SMALL and size > packed * self.limits.max_ratio:
            problem = f"unpacks to more than {self.limits.max_ratio:g} times its {packed} bytes"
            raise self._beyond(problem, "max_ratio")

    def place(self, name: str) -> str | None:
        """The path to which a file will be written, or None when its name is rejected."""
        path = checked(name, self.limits.max_depth)
        if isinstance(path, Reject):
            self.rejects.append(path)
        elif path.lower().endswith(_ARCHIVES):
            self.reject(path, "nested_archive", "unpack it, and ingest it by itself")
        elif other := self.names.clash(path):
            self.reject(path, "name_clash", f"some systems treat it as the same file as {other!r}")
        else:
            return path
        return None

    def reject(self, name: str, reason: str, detail: str) -> None:
        """Leave an entry out."""
        shown = name.encode("utf-8", "backslashreplace").decode()
        self.rejects.append(Reject(shown, reason, detail))

    def put(self, name: str, content: IO[bytes]) -> None:
        """Write a file, unless its name is rejected; no file is ever overwritten.

        Raises:
            DataRefusedError: the delivery is too large.
        """
        if (inside := self.place(name)) is None:
            return
        path = self.folder / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb") as file:
                while chunk := content.read(_CHUNK):
                    self.written += len(chunk)
                    self.check_size(self.written)
                    file.write(chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self.names.add(inside)

    def _beyond(self, problem: str, setting: str) -> DataRefusedError:
        return DataRefusedError(
            f"{self.source} {problem}; nothing of it was taken. If it is what you expect, raise "
            f"ingest.limits.{setting}"
        )


def _copy_folder(folder: Path, destination: Destination) -> None:
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            children = sorted(os.scandir(folder / inside), key=lambda child: child.name)
        except OSError as error:
            if not inside:
                raise
            destination.reject(inside, unreadable(error).reason, unreadable(error).detail)
            continue
        for child in children:
            destination.count()
            name = inside + child.name
            if child.is_symlink():
                destination.reject(name, "symlink", "links are not followed; copy the file itself")
            elif child.is_dir(follow_symlinks=False):
                waiting.append(name + "/")
            else:
                _copy_file(Path(child.path), name, destination)


def _copy_file(path: Path, name: str, destination: Destination) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_LINKS)
    except OSError as error:
        destination.reject(name, unreadable(error).reason, unreadable(error).detail)
        return
    with os.fdopen(descriptor, "rb") as content:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            destination.put(name, content)
        else:
            destination.reject(name, "device", "not a regular file")


def _unpack(archive: Path, destination: Destination) -> None:
    name = archive.name.lower()
    if not archive.is_file():
        raise DataRefusedError(f"there is no delivery at {archive}; expected a folder, {KINDS}")
    try:
        if name.endswith(".zip"):
            return _unzip(archive, destination)
        for suffix, opened in _TARS.items():
            if name.endswith(suffix):
                return _untar(archive, opened, destination)
    except _DAMAGED as error:
        raise DataRefusedError(
            f"{archive} is damaged ({type(error).__name__}: {error}), or is of another kind "
            "than its name; have it sent again"
        ) from error
    raise DataRefusedError(
        f"{archive} is of an unsupported kind; expected a folder, {KINDS}, or an .npz file"
    )


def _unzip(archive: Path, destination: Destination) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        destination.check_size(sum(member.file_size for member in members))
        for member in members:
            destination.count()
            if member.flag_bits & 0x1:
                raise DataRefusedError(
                    f"{archive} is encrypted ({member.filename!r}); unpack it, ingest the folder"
                )
            if kind := _odd_kind(member):
                destination.reject(member.orig_filename, kind, "only regular files are taken")
            elif not member.is_dir():
                _unzip_member(opened, member, destination)


def _odd_kind(member: zipfile.ZipInfo) -> Literal["symlink", "device"] | None:
    mode = member.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "symlink"
    return None if stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR) else "device"


def _unzip_member(
    opened: zipfile.ZipFile, member: zipfile.ZipInfo, destination: Destination
) -> None:
    """Unpack one member; damage to it does not affect the other members."""
    try:
        with opened.open(member) as content:
            destination.put(member.orig_filename, content)
    except (*_DAMAGED, NotImplementedError, RuntimeError) as error:
        destination.reject(member.orig_filename, "damaged", f"{type(error).__name__}: {error}")


class _Metered:
    """A stream that stops where a delivery becomes too large, headers included."""

    def __init__(self, stream: IO[bytes], destination: Destination) -> None:
        self._stream, self._shelf, self._reached = stream, destination, 0

    def read(self, size: int) -> bytes:
        if size > max(_LONGEST_HEADER, _CHUNK):
            raise DataRefusedError(f"{self._shelf.source} has a header of {size} bytes")
        chunk = self._stream.read(size)
        self._reached = max(self._reached, self._stream.tell())
        self._shelf.check_size(self._reached, _HEADER * (self._shelf.entries + 2))
        return chunk

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, position: int) -> int:
        """Move forward by reading, so that skipped bytes are counted too."""
        if position < self.tell():
            return self._stream.seek(position)
        while (left := position - self.tell()) > 0 and self.read(min(left, _CHUNK)):
            pass
        return self.tell()


def _untar(archive: Path, opened: Callable[..., Any], destination: Destination) -> None:
    with opened(archive, "rb") as stream:
        metered = cast("IO[bytes]", _Metered(stream, destination))
        with tarfile.open(fileobj=metered, mode="r:", encoding="utf-8") as tar:
            for member in tar:
                destination.count()
                if member.isdir():
                    continue
                if kind := _odd_type(member):
                    destination.reject(member.name, kind, "only regular files are taken")
                else:
                    content = tar.extractfile(member)
                    destination.put(member.name, cast("IO[bytes]", content))


def _odd_type(member: tarfile.TarInfo) -> str:
    if member.issym():
        return "symlink"
    if member.islnk():
        return "hardlink"
    if member.issparse():
        return "sparse"
    return "" if member.isreg() else "device"
