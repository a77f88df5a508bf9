"""Versions of raw data: whether a dataset is what data.dvc records.

The only file that knows data.dvc and DVC's cache. data.dvc holds DVC's md5 of the whole data folder
and, under ``meta``, which DVC keeps and does not read, that of each dataset in it and of the whole
they belong to. Only `accept` writes it; where a command of DVC did, its two halves disagree and the
data is refused.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tasks.fingerprint import fingerprint, fingerprint_files, of_bytes, of_files
from transfer.errors import CrosstrainError, DataRefusedError

__all__ = ["accept", "fingerprint", "fingerprint_files", "verify", "verify_all"]

_SHOWN = 5  # file names of each kind in a message


@dataclass(frozen=True)
class _Record:
    """What data.dvc says; nothing is recorded where there is none."""

    file: Path
    root: Path  # the data folder
    md5: str = ""  # of the data folder as a whole
    of: str = ""  # the whole that `datasets` belong to
    datasets: Mapping[str, str] = field(default_factory=dict)  # md5 of each by its name


def verify(path: Path, data_dvc: Path) -> str:
    """Fingerprint a dataset, and refuse it where data.dvc records another version of it.

    A dataset that data.dvc does not record, outside the data folder or new in it, passes.

    Raises:
        DataRefusedError: it differs, is missing or cannot be read; data.dvc is no record, or an
            outdated one.
    """
    found = fingerprint(path)
    record = _read(data_dvc)
    for member, expected in _recorded(path, record).items():
        md5 = found if member.resolve() == path.resolve() else fingerprint(member)
        if md5 != expected:
            raise DataRefusedError(_difference(member, md5, expected, record))
    return found


def verify_all(data_dvc: Path, used: Sequence[Path] = ()) -> dict[str, str]:
    """Verify every dataset that data.dvc records, and those in `used`; their md5 by path.

    Raises:
        DataRefusedError: as in `verify`, of the first that is refused.
    """
    record = _read(data_dvc)
    paths = dict.fromkeys([*_recorded(record.root, record), *used])
    return {path.as_posix(): verify(path, data_dvc) for path in paths}


def accept(data_dvc: Path) -> dict[str, str]:
    """Make the data folder as it is the recorded version, and put its files in DVC's cache.

    Returns:
        md5 of each dataset in the data folder, by its name.

    Raises:
        DataRefusedError: there is no data folder, or data.dvc is no record.
        CrosstrainError: DVC refused, with what it said; or the data changed meanwhile.
    """
    from transfer.checkpoint import write_atomic

    root = _read(data_dvc).root
    fingerprint(root)
    _dvc(data_dvc.parent, "add", "--quiet", os.path.relpath(root, data_dvc.parent))
    files, md5 = fingerprint_files(root), _read(data_dvc).md5
    if of_files(files) != md5:
        raise CrosstrainError(
            f"DVC recorded {root} as {md5} and it is {of_files(files)}: it changed meanwhile, or "
            ".dvcignore leaves out files in it; stop what writes there, or move those files, and "
            "run `crosstrain data accept` again"
        )
    tree = yaml.safe_load(data_dvc.read_text(encoding="utf-8"))
    tree["meta"] = {**(tree.get("meta") or {}), "of": md5, "datasets": _by_dataset(files)}
    write_atomic(data_dvc, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode())
    return _by_dataset(files)


def _read(data_dvc: Path) -> _Record:
    if not data_dvc.exists():
        return _Record(data_dvc, data_dvc.with_suffix(""))
    try:
        tree = yaml.safe_load(data_dvc.read_text(encoding="utf-8"))
        out, meta = tree["outs"][0], tree.get("meta") or {}
        datasets = {str(name): str(md5) for name, md5 in meta.get("datasets", {}).items()}
        root = data_dvc.parent / out["path"]
        return _Record(data_dvc, root, str(out["md5"]), str(meta.get("of", "")), datasets)
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise DataRefusedError(
            f"{data_dvc} is no record of data ({type(error).__name__}: {error}); restore it with "
            "`git checkout`, or delete it and run `crosstrain data accept`"
        ) from error


def _recorded(path: Path, record: _Record) -> dict[Path, str]:
    """The recorded datasets that `path` is, lies in or holds, with their md5."""
    inside = _inside(path, record.root)
    if inside is None:
        return {}
    if record.of != record.md5:
        raise DataRefusedError(_written_by_dvc(record))
    return {
        record.root / name: md5
        for name, md5 in record.datasets.items()
        if not inside or name == inside[0]
    }


def _inside(path: Path, root: Path) -> tuple[str, ...] | None:
    for whole in (os.path.abspath, os.path.realpath):
        if Path(whole(path)).is_relative_to(whole(root)):
            return Path(whole(path)).relative_to(whole(root)).parts
    return None


def _by_dataset(files: Mapping[str, str]) -> dict[str, str]:
    return {name: inside.get("") or of_files(inside) for name, inside in _grouped(files).items()}


def _grouped(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Files by dataset, then by path inside it; '' where the dataset is itself a file."""
    groups: dict[str, dict[str, str]] = {}
    for path, md5 in files.items():
        name, _, inside = path.partition("/")
        groups.setdefault(name, {})[inside] = md5
    return groups


def _written_by_dvc(record: _Record) -> str:
    now = _by_dataset(fingerprint_files(record.root))
    old = record.datasets
    other = [n for n in sorted(now.keys() | old.keys()) if now.get(n) != old.get(n)]
    return (
        f"{record.file} records {record.root} as {record.md5} and its datasets as of "
        f"{record.of or 'no version'}: dvc add, commit, repro or exp run wrote it, which looks at "
        f"no dataset. Changed or new since the datasets were recorded: {', '.join(other) or 'none'}"
        f"\nTake it back: restore those, and `git checkout {record.file}`. Or make what is there "
        "the recorded version: `crosstrain data accept`"
    )


def _difference(member: Path, found: str, expected: str, record: _Record) -> str:
    files, restore = _recorded_files(member, expected, record)
    changes = _changes(fingerprint_files(member), files) if files and member.is_dir() else ""
    return (
        f"{member} is not the version that {record.file} records: found {found}, expected "
        f"{expected}{changes}\nRestore it: {restore}. Or make what is there the recorded version: "
        "`crosstrain data accept`"
    )


def _recorded_files(member: Path, expected: str, record: _Record) -> tuple[dict[str, str], str]:
    """The files of the recorded version, where they can be known, and how to restore it."""
    cached = _grouped(_cached(record)).get(member.name, {})
    if expected in (cached.get(""), of_files(cached)):
        return cached, f"`dvc checkout --force {member}`"
    demo = _demo_files(member.name)
    if of_files(demo) == expected:
        return demo, f"delete {member} and run `crosstrain data write`"
    return {}, f"delete {member} and fetch it with `dvc pull {member}`, or from where it came"


def _cached(record: _Record) -> dict[str, str]:
    """Files of the recorded data folder; empty when DVC's cache lacks the list."""
    try:
        cache = Path(_dvc(record.file.parent, "cache", "dir").strip())
        rows = json.loads((cache / "files" / "md5" / record.md5[:2] / record.md5[2:]).read_text())
        return {row["relpath"]: row["md5"] for row in rows}
    except (CrosstrainError, OSError, ValueError, LookupError, TypeError):
        return {}


def _demo_files(name: str) -> dict[str, str]:
    from tasks import demo_data

    try:
        return {path: of_bytes(content) for path, content in demo_data.pictures(name)}
    except (CrosstrainError, LookupError):
        return {}


def _changes(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    kinds = {
        "changed": [n for n in expected if n in found and found[n] != expected[n]],
        "missing": [n for n in expected if n not in found],
        "added": [n for n in found if n not in expected],
    }
    return "".join(
        f"\n  {kind}, {len(names)}: {', '.join(names[:_SHOWN])}{' ...' * (len(names) > _SHOWN)}"
        for kind, names in kinds.items()
        if names
    )


def _dvc(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise CrosstrainError(f"`dvc {' '.join(words)}` failed in {folder}: {done.stderr.strip()}")
    return done.stdout
