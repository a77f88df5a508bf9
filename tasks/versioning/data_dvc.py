"""data.dvc: DVC's md5 of the whole data folder and, under ``meta``, that of each dataset in it.

DVC keeps ``meta`` and does not read it. Where a command of DVC rewrote the file, its two halves
disagree.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from tasks.versioning.dvc_md5 import of_files
from transfer.core.atomic_files import write_atomic
from transfer.core.errors import CrosstrainError, DataRefusedError

UNFINISHED = ".*.partial"


@dataclass(frozen=True)
class Record:
    """What data.dvc says; nothing is recorded where there is none."""

    file: Path
    root: Path
    """The data folder."""
    md5: str = ""
    """Of the data folder as a whole."""
    of: str = ""
    """The whole that `datasets` belong to."""
    datasets: Mapping[str, str] = field(default_factory=dict)
    """md5 of each entry of the data folder, by its name."""

    def files(self) -> dict[str, str]:
        """md5 of each recorded file by its path; empty when DVC's cache lacks the list."""
        try:
            return listed(cache_of(self.file.parent), self.md5)
        except (CrosstrainError, OSError, ValueError, LookupError, TypeError):
            return {}


def cache_of(folder: Path) -> Path:
    """DVC's cache.

    Raises:
        CrosstrainError: the folder is in no DVC repository.
    """
    return _cache_of(folder.resolve())


@cache
def _cache_of(folder: Path) -> Path:
    return Path(dvc(folder, "cache", "dir").strip())


def cached(cache: Path, md5: str) -> Path:
    """Where a file, or the list of a folder's files, lies in a cache that has it."""
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def listed(cache: Path, md5: str) -> dict[str, str]:
    """md5 of each file of a folder by its path, from the list that DVC keeps under the folder's.

    Raises:
        OSError: the cache lacks it.
        ValueError, LookupError, TypeError: it is damaged.
    """
    rows = json.loads(cached(cache, md5).read_text())
    return {row["relpath"]: row["md5"] for row in rows}


def fetch(md5s: Iterable[str]) -> None:
    """Fetch files from DVC's default remote into its cache, as far as it has them.

    Raises:
        CrosstrainError: DVC has no remote or cannot reach it; what it lacks is no error.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tasks.versioning.dvc_fetch"],
        input="\n".join(md5s),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        told = done.stderr.strip().splitlines() or ["no reason given"]
        raise CrosstrainError(told[-1])


def uncached(record: Record, md5s: Iterable[str]) -> list[str]:
    """Those of some files, and of the list of all recorded ones, that DVC's cache lacks."""
    known = cache_of(record.file.parent)
    return [md5 for md5 in (*md5s, record.md5) if not cached(known, md5).exists()]


def read(data_dvc: Path) -> Record:
    """Read data.dvc.

    Raises:
        DataRefusedError: it is no data.dvc.
    """
    if not data_dvc.exists():
        return Record(data_dvc, data_dvc.with_suffix(""))
    try:
        return parse(data_dvc, data_dvc.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataRefusedError(f"{data_dvc} is no record of data: {error}") from error


def parse(data_dvc: Path, text: str) -> Record:
    """Read what data.dvc says, or said.

    Raises:
        DataRefusedError: it is no data.dvc.
    """
    try:
        tree = yaml.safe_load(text)
        out, meta = tree["outs"][0], tree.get("meta") or {}
        datasets = {str(name): str(md5) for name, md5 in meta.get("datasets", {}).items()}
        root = data_dvc.parent / out["path"]
        return Record(data_dvc, root, str(out["md5"]), str(meta.get("of", "")), datasets)
    except (ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise DataRefusedError(
            f"{data_dvc} is no record of data ({type(error).__name__}: {error}); restore it with "
            "`git checkout`, or delete it and run `crosstrain data accept`"
        ) from error


def add(record: Record) -> Record:
    """Let DVC put the data folder in its cache and rewrite data.dvc, and read that.

    Raises:
        CrosstrainError: DVC refused, with what it said.
    """
    folder = record.file.parent
    _leave_out_unfinished(folder / ".dvcignore")
    dvc(folder, "add", os.path.relpath(record.root, folder))
    return read(record.file)


def _leave_out_unfinished(dvcignore: Path) -> None:
    """See to it that DVC leaves out what is being written, as fingerprints do."""
    text = dvcignore.read_text(encoding="utf-8") if dvcignore.exists() else ""
    if UNFINISHED not in text.splitlines():
        lines = text + "\n" * (text != "" and not text.endswith("\n")) + f"{UNFINISHED}\n"
        write_atomic(dvcignore, lines.encode())


def write_datasets(record: Record, datasets: Mapping[str, str]) -> None:
    """Write the md5 of each dataset beside that of the whole; the rest of data.dvc stays."""
    tree = yaml.safe_load(record.file.read_text(encoding="utf-8"))
    told = {"of": record.md5, "datasets": dict(sorted(datasets.items()))}
    tree["meta"] = {**(tree.get("meta") or {}), **told}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    write_atomic(record.file, text.encode())


def grouped(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Files by dataset, then by path inside it; '' where the dataset is itself a file."""
    groups: dict[str, dict[str, str]] = {}
    for path, md5 in files.items():
        name, _, inside = path.partition("/")
        groups.setdefault(name, {})[inside] = md5
    return groups


def by_dataset(files: Mapping[str, str]) -> dict[str, str]:
    """md5 of each dataset of a data folder with these files."""
    return {name: inside.get("") or of_files(inside) for name, inside in grouped(files).items()}


def dvc(folder: Path, *words: str) -> str:
    """Run DVC in a folder; what it printed.

    Raises:
        CrosstrainError: DVC refused, with what it said.
    """
    command = [sys.executable, "-P", "-m", "dvc", *words]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise CrosstrainError(f"`dvc {' '.join(words)}` failed in {folder}: {done.stderr.strip()}")
    return done.stdout
