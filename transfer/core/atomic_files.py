"""Files that are there whole or not at all, and on disk when they are said to be."""

import os
import shutil
from pathlib import Path


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file in full or not at all: temporary sibling, fsync, rename, fsync the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Wait until a file, or the list of files in a folder, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(source: Path, place: Path) -> None:
    """Move a file to a place where nothing is. Where that was done before, nothing is left to do.

    Raises:
        FileExistsError: another file is there.
        FileNotFoundError: the file is at neither.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, place)
    except FileNotFoundError:
        if not place.exists():
            raise
        return
    except FileExistsError:
        if not place.samefile(source):
            raise
    except OSError:  # a file system without hard links
        if place.exists():
            raise FileExistsError(f"{place} is in the way of {source}") from None
        source.rename(place)
        return
    source.unlink()


def link_or_copy(source: Path, place: Path) -> None:
    """Give a file a second name, which costs no space, or copy it where that cannot be done."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)
