"""A folder of class folders: the folder's name is the class, its items are at any depth below."""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from transfer.core.errors import DataRefusedError
from transfer.data.readers.listing import (
    Entry,
    FolderEntries,
    Listing,
    Reject,
    check_suffix,
    unreadable,
)
from transfer.data.splits.assignment import SIDES
from transfer.modalities.interface import Modality

_SPLIT_NAMES = frozenset({*SIDES, "training", "valid", "validation", "testing"})
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def list_folder(root: Path, modality: Modality) -> Listing:
    """List every file of a modality in every class folder; class names are NFC-normalised.

    Rejects: hidden (the system's own files), symlink, permission, bad_name (not UTF-8), wrong_type,
    and no_class_folder (a file next to the class folders).

    Raises:
        DataRefusedError: the folder cannot be read, or its folders are splits.
    """
    try:
        children = _children(str(root))
    except OSError as error:
        raise DataRefusedError(f"{root} cannot be read: {error.strerror}") from error
    names: set[str] = set()
    entries, rejects = FolderEntries(root), list[Reject]()
    for child in sorted(children, key=lambda child: f"{child.name}/"):  # so that ids ascend
        if reject := _unfit(child, child.name):
            rejects.append(reject)
        elif child.is_dir():
            label = unicodedata.normalize("NFC", child.name)
            names.add(label)
            entries.add(label, sorted(_ids(walk(child.path, child.name, label, modality), rejects)))
        else:
            detail = "beside the class folders; expected <class>/<file>"
            rejects.append(Reject(child.name, "no_class_folder", detail))
    _check_not_splits(root, names)
    return Listing(tuple(sorted(names)), entries, rejects)


def _ids(listed: Iterable[Entry | Reject], rejects: list[Reject]) -> Iterator[str]:
    for entry in listed:
        if isinstance(entry, Reject):
            rejects.append(entry)
        else:
            yield entry.id


def _check_not_splits(root: Path, names: set[str]) -> None:
    if len(names) > 1 and {name.lower() for name in names} <= _SPLIT_NAMES:
        raise DataRefusedError(
            f"the folders in {root} are splits ({', '.join(sorted(names))}); expected one folder a "
            "class, or a manifest file with the columns path, label and split"
        )


def _children(folder: str) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as children:
        return sorted(children, key=lambda child: child.name)


def walk(folder: str, inside: str, label: str, modality: Modality) -> Iterator[Entry | Reject]:
    """List the files below a folder, at any depth, in an order that depends only on the names.

    Args:
        folder: folder to list.
        inside: its path in the dataset, '/' separated; empty for the dataset itself.
        label: class of every entry.
        modality: modality of the files.
    """
    waiting = [(folder, inside)]
    while waiting:
        folder, inside = waiting.pop()
        try:
            children = _children(folder)
        except OSError as error:
            yield Reject(inside, unreadable(error).reason, unreadable(error).detail)
            continue
        below: list[tuple[str, str]] = []
        for child in children:
            name = f"{inside}/{child.name}" if inside else child.name
            if reject := _unfit(child, name):
                yield reject
            elif child.is_dir():
                below.append((child.path, name))
            else:
                yield check_suffix(name, modality) or Entry(name, Path(child.path), label)
        waiting += reversed(below)


def _unfit(child: "os.DirEntry[str]", name: str) -> Reject | None:
    if not name.isascii() and (spelled := _spelled(name)) != name:
        return Reject(spelled, "bad_name", "the name is not UTF-8; rename it")
    if child.name.startswith(".") or child.name.lower() in _SYSTEM_FILES:
        return Reject(name, "hidden", "hidden files are not read")
    if child.is_symlink():
        return Reject(name, "symlink", "links are not followed; copy the file or folder here")
    return None


def _spelled(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
