"""The content-addressed store: the same inputs, settings and code give the stored result.

A result is a folder ``build/<step>/<key>``. It is written to a temporary folder beside it, fsynced
and renamed, so that it is complete or absent. Its file ``stored.json`` lists every file with its
digest. A hit checks all digests: the existence of a file alone is not trusted.
"""

import hashlib
import inspect
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from tasks.runtime import paths
from tasks.runtime.artifacts import Ref
from tasks.store.source_digest import source_digest
from transfer.core.atomic_files import fsync, write_atomic

RECORD = "stored.json"


def key(
    step: str, inputs: Mapping[str, str], settings: Mapping[str, Any], code: Sequence[str]
) -> str:
    """The cache key: a digest of the step, its inputs, its settings and the source that it uses."""
    parts = {
        "step": step,
        "inputs": dict(inputs),
        "settings": dict(settings),
        "code": source_digest(code),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def result(
    step: str,
    compute: Callable[[Path], object],
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    code: Sequence[str],
) -> Ref:
    """Return the stored result of a step, or compute and store it.

    Args:
        step: name of the step; the folder under build/.
        compute: writes the result's files into the empty folder that it receives; the source
            file that defines this function is part of the key.
        inputs: digest of each input.
        settings: plain JSON values that the result depends on.
        code: modules whose source the result depends on, together with what they import.
    """
    own = compute.__module__
    return computed(address(step, own, inputs=inputs, settings=settings, code=code), compute)


def address(
    step: str,
    own: str,
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    code: Sequence[str],
) -> Path:
    """The folder of a step's result, whether or not it is stored.

    Args:
        step: name of the step; the folder under build/.
        own: name of the module that computes the result; its source file is part of the key, the
            modules that it imports are not.
        inputs: digest of each input.
        settings: plain JSON values that the result depends on.
        code: modules whose source the result depends on, together with what they import.
    """
    file = Path(inspect.getfile(sys.modules[own]))
    return (
        paths.BUILD / step / key(step, inputs, {**settings, "step file": _file_digest(file)}, code)
    )


def lookup(place: Path) -> Ref | None:
    """The result that is stored at an address; None where there is none, or a damaged one.

    Computes nothing and takes no lock, so it also answers while the result is being computed.
    """
    try:
        record = json.loads((place / RECORD).read_text())
        expected, seconds = record["files"], record["seconds"]
        digest, files = digest_of(place)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Ref(place, digest, seconds, reused=True) if files == expected else None


def computed(place: Path, compute: Callable[[Path], object]) -> Ref:
    """Return the result that is stored at an address, or compute and store it.

    Args:
        place: the address.
        compute: writes the result's files into the empty folder that it receives.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_name(f".{place.name}.lock")):
        if (stored := lookup(place)) is not None:
            return stored
        working = place.with_name(f".{place.name}.part")
        shutil.rmtree(working, ignore_errors=True)
        working.mkdir()
        started = time.perf_counter()
        compute(working)
        return _store(working, place, time.perf_counter() - started)


def partial(place: Path) -> Path:
    """The path at which the checkpoints of a result are kept.

    Args:
        place: the folder of the result, or the temporary folder that it is being written to.
    """
    address = place.name.removeprefix(".").removesuffix(".part")
    return paths.BUILD / "partial" / place.parent.name / address


def digest_of(folder: Path) -> tuple[str, dict[str, str]]:
    """Digest of a folder's content, and of each file by its relative path."""
    files = {
        path.relative_to(folder).as_posix(): _file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD
    }
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(), files


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _store(working: Path, place: Path, seconds: float) -> Ref:
    digest, files = digest_of(working)
    for path in working.rglob("*"):
        fsync(path)
    seconds = round(seconds, 3)
    record = {"digest": digest, "seconds": seconds, "files": files}
    write_atomic(working / RECORD, json.dumps(record, indent=1).encode())
    shutil.rmtree(place, ignore_errors=True)
    working.rename(place)
    fsync(place.parent)
    return Ref(place, digest, seconds, reused=False)
