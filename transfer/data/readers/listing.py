"""Items to read and rejects, the same for every kind of dataset.

Nothing is ignored silently: a file or row that cannot be used becomes a `Reject` with a reason.
Links are not followed, and no path leads out of its dataset.
"""

import difflib
import errno
import os
import stat
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from transfer.core.errors import DataRefusedError
from transfer.modalities.interface import InputLimits, Modality, Unreadable

KINDS = "a folder of class folders, or a .csv, .parquet or .npz file"
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_REASONS = {
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.ELOOP: "symlink",
    errno.EISDIR: "wrong_type",
}


@dataclass(frozen=True)
class Reject:
    """A file or row of a dataset that is not used, and the reason."""

    path: str  # inside the dataset, '/' separated
    reason: str  # a stable code
    detail: str


@dataclass(frozen=True)
class Entry:
    """An item to read."""

    id: str
    path: Path
    label: str
    group: str = ""
    split: str = ""


class FolderEntries(Sequence[Entry]):
    """Items of class folders, packed: about ten bytes per item besides its name, not hundreds."""

    def __init__(self, root: Path) -> None:
        """Begin without items.

        Args:
            root: folder to which the ids are relative paths.
        """
        self._root, self._labels = root, list[str]()
        self._names, self._ends, self._classes = bytearray(), array("q", [0]), array("i")

    def add(self, label: str, ids: Iterable[str]) -> None:
        """Add the items of a class."""
        self._labels.append(label)
        for id_ in ids:
            self._names += id_.encode()
            self._ends.append(len(self._names))
            self._classes.append(len(self._labels) - 1)

    def __len__(self) -> int:
        return len(self._classes)

    @overload
    def __getitem__(self, i: int) -> Entry: ...
    @overload
    def __getitem__(self, i: slice) -> list[Entry]: ...
    def __getitem__(self, i: int | slice) -> Entry | list[Entry]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        id_ = self._names[self._ends[i] : self._ends[i + 1]].decode()
        return Entry(id_, self._root / id_, self._labels[self._classes[i]])


@dataclass(frozen=True)
class Listing:
    """The classes of a dataset, in order, its items and its rejects."""

    class_names: tuple[str, ...]
    entries: Sequence[Entry]
    rejects: list[Reject]


def no_dataset(path: Path) -> DataRefusedError:
    """The error of a path without a dataset; names the most similar path in the same folder."""
    if path.exists():
        return DataRefusedError(f"{path} is no dataset; expected {KINDS}")
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, 1)
    hint = f"; did you mean {path.parent / near[0]}?" if near else ""
    return DataRefusedError(f"{path} does not exist; expected {KINDS}{hint}")


def check_classes(
    dataset: Path,
    names: Sequence[str],
    labels: Counter[str],
    rejects: Sequence[Reject],
    modality: Modality,
) -> None:
    """Check that there are two or more classes, and that none is empty.

    Args:
        labels: number of items of each class.
        modality: of the items.

    Raises:
        DataRefusedError: there is no item at all, a class has no item, or there is only one class.
    """
    noun, counts = modality.nouns.one, sorted(Counter(r.reason for r in rejects).items())
    why = f" (rejected: {', '.join(f'{n} {reason}' for reason, n in counts)})" if counts else ""
    if not labels.total():
        details = [f"; {r.path}: {r.detail}" for r in rejects if r.reason != "hidden"]
        raise DataRefusedError(
            f"{dataset} holds no readable {noun} of a class{why}{''.join(details[:1])}. Expected "
            f"{KINDS}; {noun} files end in {', '.join(sorted(modality.suffixes))}"
        )
    if empty := [repr(name) for name in names if not labels[name]]:
        raise DataRefusedError(
            f"{dataset}: no readable {noun} of class {', '.join(empty)}{why}; expected one or more "
            "a class: add some, or remove the class"
        )
    if len(names) < 2:
        raise DataRefusedError(
            f"{dataset} holds one class, {names[0]!r}; expected two or more, each a folder in it "
            "or a value of the column label"
        )


def check_spelling(where: str, found: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a misspelt name of a group or split, which would be ignored.

    Raises:
        DataRefusedError: an unknown name is similar to an absent one; the message gives both.
    """
    absent = [name for name in known if name not in found]
    for name in found:
        near = difflib.get_close_matches(name.lower(), absent, 1, cutoff=0.8)
        if near and name not in known:
            raise DataRefusedError(f"{where} holds {name!r}; expected {near[0]!r}: rename it")


def check_suffix(name: str, modality: Modality) -> Reject | None:
    """Reject a name without a suffix of the modality."""
    if Path(name).suffix.lower() in modality.suffixes:
        return None
    return Reject(name, "wrong_type", f"expected one of {', '.join(sorted(modality.suffixes))}")


def too_large(size: int, limits: InputLimits) -> Unreadable:
    """The error of a file that has more bytes than allowed."""
    return Unreadable("too_large", f"{size} bytes; at most {limits.max_bytes} are allowed")


def read(path: Path, limits: InputLimits) -> bytes:
    """Read the file of an item once, without following a link.

    Raises:
        Unreadable: permission, missing, symlink, wrong_type (a folder, a pipe), too_large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_LINKS)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("wrong_type", "not a regular file")
            if status.st_size > limits.max_bytes:
                raise too_large(status.st_size, limits)
            return file.readall()
    except OSError as error:
        raise unreadable(error) from error


def unreadable(error: OSError) -> Unreadable:
    """The error of a file that the system refused, with the reason."""
    return Unreadable(_REASONS.get(error.errno or 0, "unreadable"), error.strerror or str(error))
