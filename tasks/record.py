"""data.dvc: DVC's md5 of the whole data folder and, under ``meta``, that of each dataset in it.

DVC keeps ``meta`` and does not read it. Where a command of DVC rewrote the file, its two halves
disagree.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tasks.fingerprint import of_files
from transfer.errors import CrosstrainError, DataRefusedError
from transfer.files import write_atomic


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
            cache = Path(dvc(self.file.parent, "cache", "dir").strip())
            rows = json.loads((cache / "files" / "md5" / self.md5[:2] / self.md5[2:]).read_text())
            return {row["relpath"]: row["md5"] for row in rows}
        except (CrosstrainError, OSError, ValueError, LookupError, TypeError):
            return {}


def read(data_dvc: Path) -> Record:
    """Read data.dvc.

    Raises:
        DataRefusedError: it is no data.dvc.
    """
    if not data_dvc.exists():
        return Record(data_dvc, data_dvc.with_suffix(""))
    try:
        tree = yaml.safe_load(data_dvc.read_text(encoding="utf-8"))
        out, meta = tree["outs"][0], tree.get("meta") or {}
        datasets = {str(name): str(md5) for name, md5 in meta.get("datasets", {}).items()}
        root = data_dvc.parent / out["path"]
        return Record(data_dvc, root, str(out["md5"]), str(meta.get("of", "")), datasets)
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
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
    dvc(folder, "add", os.path.relpath(record.root, folder))
    return read(record.file)


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
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise CrosstrainError(f"`dvc {' '.join(words)}` failed in {folder}: {done.stderr.strip()}")
    return done.stdout
