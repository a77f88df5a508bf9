"""DVC's md5 of files and folders, computed without DVC.

A DVC command takes half a second and, with an empty cache, cannot distinguish a changed file from
an unchanged one; this module can. A file with an unchanged stat is not read again: see
`tasks.versioning.stat_index`. Neither the list of files nor the index is held in memory.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tasks.versioning.stat_index import MD5, StatIndex
from transfer.core.errors import DataRefusedError

_IGNORED = re.compile(r"\.git|\.hg|\.dvc|\.DS_Store|Thumbs\.db|desktop\.ini|\..*\.partial")


def fingerprint(path: Path) -> str:
    """DVC's md5 of a file or folder.

    Raises:
        DataRefusedError: `path` does not exist, or it is a file that cannot be read.
    """
    if path.is_dir():
        return _of_rows(_walk(path))
    if not path.exists():
        raise DataRefusedError(
            f"there is no dataset at {path}; write the demo data with `crosstrain data write`, "
            "fetch recorded data with `dvc pull`, or correct source.path or target.path"
        )
    if path.is_file() and (md5 := _of_file(path)):
        return md5
    raise DataRefusedError(f"{path} cannot be read; expected a folder, or a file that you may read")


def fingerprint_files(folder: Path) -> dict[str, str]:
    """md5 of each file of a folder, by its path inside it, '/' separated and sorted.

    As in DVC, hidden files are included and a link to a file is treated as that file; linked
    folders, empty folders and the entries of .dvcignore are left out. An entry that cannot be
    read, at which DVC stops, has the md5 ''.
    """
    return dict(_walk(folder))


def of_files(files: Mapping[str, str]) -> str:
    """DVC's md5 of a folder, from the md5 of each of its files by its path in the folder.

    It is the md5 of ``[{"md5": ..., "relpath": ...}, ...]`` as JSON, sorted by relpath as a string,
    followed by ``.dir``.
    """
    return _of_rows(sorted(files.items()))


def _of_rows(rows: Iterable[tuple[str, str]]) -> str:
    digest, separator = MD5(b"["), ""
    for name, md5 in rows:
        digest.update(f"{separator}{json.dumps({'md5': md5, 'relpath': name})}".encode())
        separator = ", "
    digest.update(b"]")
    return digest.hexdigest() + ".dir"


def of_bytes(content: bytes) -> str:
    """DVC's md5 of a file with this content."""
    return MD5(content).hexdigest()


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield path and md5 of each file in ascending order of paths."""
    waiting = [""]
    with StatIndex(folder) as index:
        while waiting:
            inside = waiting.pop()
            path = f"{folder}/{inside}"
            if inside and not inside.endswith("/"):
                if (md5 := index.md5(inside, path)) is not None:
                    yield inside, md5
            elif (children := _children(path, inside)) is None:
                yield inside.rstrip("/"), ""
            else:
                waiting += children


def _children(folder: str, inside: str) -> list[str] | None:
    """Paths of a folder's entries, descending; a folder's path ends in '/'. None: no access."""
    try:
        with os.scandir(folder) as entries:
            children = [
                inside + _marked(entry) for entry in entries if not _IGNORED.fullmatch(entry.name)
            ]
    except OSError:
        return None
    return sorted(children, reverse=True)


def _marked(entry: os.DirEntry[str]) -> str:
    """The name; for a folder that can be read, with a '/' at the end."""
    readable = entry.is_dir(follow_symlinks=False) and os.access(entry.path, os.R_OK)
    return entry.name + "/" if readable else entry.name


def _of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, MD5).hexdigest()
    except OSError:
        return ""
