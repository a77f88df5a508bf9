"""File operations that are atomic (a file is complete or absent) and wait until it is on disk."""

import os
import shutil
from pathlib import Path


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file completely or not at all: temporary file, fsync, rename, fsync the folder."""
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


def move_without_overwriting(source: Path, destination: Path) -> None:
    """Move a file to a path that does not exist yet; repeating a finished move does nothing.

    Raises:
        FileExistsError: another file is at the destination.
        FileNotFoundError: the file is neither at the source nor at the destination.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, destination)
    except FileNotFoundError:
        if not destination.exists():
            raise
        return
    except FileExistsError:
        if not destination.samefile(source):
            raise
    except OSError:  # a file system without hard links
        if destination.exists():
            raise FileExistsError(f"{destination} exists; cannot move {source} to it") from None
        source.rename(destination)
        return
    source.unlink()


def link_or_copy(source: Path, destination: Path) -> None:
    """Make a hard link to a file, which costs no space, or copy it where links are not possible."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
