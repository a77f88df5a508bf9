"""data.dvc: DVC's md5 of the whole data folder and, under ``meta``, that of each dataset in it.

DVC keeps ``meta`` and does not read it. After a DVC command has rewritten the file, the md5 of the
folder and those of the datasets disagree.
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
class DataRecord:
    """The content of data.dvc; its fields are empty if the file does not exist."""

    file: Path
    root: Path
    """The data folder."""
    md5: str = ""
    """md5 of the whole data folder."""
    of: str = ""
    """md5 of the whole data folder at the time when `datasets` was written."""
    datasets: Mapping[str, str] = field(default_factory=dict)
    """md5 of each entry of the data folder, by its name."""

    def files(self) -> dict[str, str]:
        """md5 of each recorded file by its path; empty if DVC's cache does not have the list."""
        try:
            return listed(cache_of(self.file.parent), self.md5)
        except (CrosstrainError, OSError, ValueError, LookupError, TypeError):
            return {}


def cache_of(folder: Path) -> Path:
    """Folder of DVC's cache.

    Raises:
        CrosstrainError: the folder is not in a DVC repository.
    """
    return _cache_of(folder.resolve())


@cache
def _cache_of(folder: Path) -> Path:
    return Path(dvc(folder, "cache", "dir").strip())


def cached(cache: Path, md5: str) -> Path:
    """Path in the cache of a file, or of the list of a folder's files."""
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def listed(cache: Path, md5: str) -> dict[str, str]:
    """md5 of each file of a folder by its path, from the list that DVC stores for the folder.

    Raises:
        OSError: the list is not in the cache.
        ValueError, LookupError, TypeError: the list is damaged.
    """
    rows = json.loads(cached(cache, md5).read_text())
    return {row["relpath"]: row["md5"] for row in rows}


def fetch(md5s: Iterable[str]) -> None:
    """Fetch files from DVC's default remote into its cache; missing files are not an error.

    Raises:
        CrosstrainError: DVC has no remote or cannot reach it.
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
        error_lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise CrosstrainError(error_lines[-1])


def uncached(record: DataRecord, md5s: Iterable[str]) -> list[str]:
    """The md5s of the given files, and of the list of recorded files, that are not in the cache."""
    known = cache_of(record.file.parent)
    return [md5 for md5 in (*md5s, record.md5) if not cached(known, md5).exists()]


def read(data_dvc: Path) -> DataRecord:
    """Read data.dvc.

    Raises:
        DataRefusedError: the file is not a valid data.dvc.
    """
    if not data_dvc.exists():
        return DataRecord(data_dvc, data_dvc.with_suffix(""))
    try:
        return parse(data_dvc, data_dvc.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataRefusedError(f"{data_dvc} is not a valid record of data: {error}") from error


def parse(data_dvc: Path, text: str) -> DataRecord:
    """Parse the current or an older text of data.dvc.

    Raises:
        DataRefusedError: the text is not a valid data.dvc.
    """
    try:
        tree = yaml.safe_load(text)
        out, meta = tree["outs"][0], tree.get("meta") or {}
        datasets = {str(name): str(md5) for name, md5 in meta.get("datasets", {}).items()}
        root = data_dvc.parent / out["path"]
        return DataRecord(data_dvc, root, str(out["md5"]), str(meta.get("of", "")), datasets)
    except (ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise DataRefusedError(
            f"{data_dvc} is not a valid record of data ({type(error).__name__}: {error}); restore "
            "it with `git checkout`, or delete it and run `crosstrain data accept`"
        ) from error


def add(record: DataRecord) -> DataRecord:
    """Let DVC put the data folder in its cache and rewrite data.dvc; the new record.

    Raises:
        CrosstrainError: DVC failed; the message contains its output.
    """
    folder = record.file.parent
    _ignore_unfinished(folder / ".dvcignore")
    dvc(folder, "add", os.path.relpath(record.root, folder))
    return read(record.file)


def _ignore_unfinished(dvcignore: Path) -> None:
    """Make DVC ignore unfinished files, as fingerprints do."""
    text = dvcignore.read_text(encoding="utf-8") if dvcignore.exists() else ""
    if UNFINISHED not in text.splitlines():
        lines = text + "\n" * (text != "" and not text.endswith("\n")) + f"{UNFINISHED}\n"
        write_atomic(dvcignore, lines.encode())


def write_datasets(record: DataRecord, datasets: Mapping[str, str]) -> None:
    """Write the md5 of each dataset to data.dvc; the other parts of the file do not change."""
    tree = yaml.safe_load(record.file.read_text(encoding="utf-8"))
    recorded = {"of": record.md5, "datasets": dict(sorted(datasets.items()))}
    tree["meta"] = {**(tree.get("meta") or {}), **recorded}
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
    """Run DVC in a folder and return its standard output.

    Raises:
        CrosstrainError: DVC failed; the message contains its output.
    """
    command = [sys.executable, "-P", "-m", "dvc", *words]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise CrosstrainError(f"`dvc {' '.join(words)}` failed in {folder}: {done.stderr.strip()}")
    return done.stdout
