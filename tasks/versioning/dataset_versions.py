"""Versions of raw data: whether a dataset is what data.dvc records, and recording another.

This file, fingerprint.py, record.py and fetch.py are the only ones that know DVC. Only `accept` and
`restore` write data.dvc; where a command of DVC did, the data is refused.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.versioning import data_dvc as records
from tasks.versioning import ingest_journal
from tasks.versioning.data_dvc import Record
from tasks.versioning.dvc_md5 import fingerprint, fingerprint_files, of_bytes, of_files
from transfer.core.atomic_files import write_atomic
from transfer.core.errors import CrosstrainError, DataRefusedError, SettingsError

__all__ = [
    "accept",
    "check_remote",
    "check_repository",
    "fingerprint",
    "fingerprint_files",
    "inside_of",
    "preserve",
    "restore",
    "verify",
    "verify_all",
    "whole",
]

_SHOWN = 5  # file names of each kind in a message


def verify(path: Path, data_dvc: Path) -> str:
    """Fingerprint a dataset, and refuse it where data.dvc records another version of it.

    A dataset that data.dvc does not record, outside the data folder or new in it, passes. A
    manifest file stands for the folder it lies in, which holds its pictures.

    Raises:
        DataRefusedError: it differs, is missing or cannot be read; data.dvc is no record, or DVC
            wrote it; an ingest into it is not finished.
    """
    path = whole(path)
    record = records.read(data_dvc)
    _check_finished(path, record.root)
    found = fingerprint(path)
    for member, expected in _recorded(path, record).items():
        md5 = found if member.resolve() == path.resolve() else fingerprint(member)
        if md5 != expected:
            raise DataRefusedError(_difference(member, md5, expected, record))
    return found


def whole(path: Path) -> Path:
    """The dataset's file or folder: of a manifest the folder it lies in."""
    is_manifest = path.suffix.lower() in (".csv", ".parquet") and path.is_file()
    return path.parent if is_manifest else path


def verify_all(data_dvc: Path, used: Sequence[Path] = ()) -> dict[str, str]:
    """Verify those in `used`, or else every dataset that data.dvc records; their md5 by path.

    Raises:
        DataRefusedError: as in `verify`, of the first that is refused.
    """
    record = records.read(data_dvc)
    paths = dict.fromkeys(used or _recorded(record.root, record))
    return {path.as_posix(): verify(path, data_dvc) for path in paths}


def accept(data_dvc: Path, *, ingesting: bool = False) -> dict[str, str]:
    """Make the data folder as it is the recorded version, and put its files in DVC's cache.

    Args:
        ingesting: this is the last step of an ingest, which is not finished yet.

    Returns:
        md5 of each dataset in the data folder, by its name.

    Raises:
        DataRefusedError: there is no data folder, a file in it cannot be read, data.dvc is no
            record, or an ingest is not finished.
        CrosstrainError: DVC refused, with what it said; or the data changed meanwhile.
    """
    record = records.read(data_dvc)
    if not ingesting:
        _check_finished(record.root, record.root)
    _check_readable(record.root)
    record = records.add(record)
    files = fingerprint_files(record.root)
    if of_files(files) != record.md5:
        raise CrosstrainError(
            f"DVC recorded {record.root} as {record.md5} and it is {of_files(files)}: it changed "
            "meanwhile, or .dvcignore leaves out files in it; stop what writes there, or move "
            "those files, and run `crosstrain data accept` again"
        )
    datasets = records.by_dataset(files)
    records.write_datasets(record, datasets)
    return datasets


def check_repository(data_dvc: Path) -> None:
    """Make sure that DVC can record the data.

    Raises:
        SettingsError: the project is no DVC repository.
    """
    folder = data_dvc.absolute().parent
    if not any((above / ".dvc").is_dir() for above in (folder, *folder.parents)):
        raise SettingsError(
            f"{folder} is no DVC repository, so no version of the data could be recorded; make it "
            "one with `git init && dvc init`, or `dvc init --no-scm` where there is no Git"
        )


def check_remote(data_dvc: Path) -> None:
    """Make sure that DVC has a remote to push to.

    Raises:
        SettingsError: there is none.
    """
    try:
        records.dvc(data_dvc.parent, "remote", "default")
    except CrosstrainError as error:
        raise SettingsError(
            "there is no DVC remote to push to; name one with `dvc remote add --default NAME URL`"
        ) from error


def preserve(data_dvc: Path) -> None:
    """Put the data folder as it is in DVC's cache, where it is not, so that it can be restored.

    Raises:
        DataRefusedError: as in `accept`.
        CrosstrainError: DVC refused, with what it said.
    """
    record = records.read(data_dvc)
    files = fingerprint_files(record.root) if record.root.is_dir() else {}
    if files and (of_files(files) != record.md5 or records.uncached(record, files.values())):
        accept(data_dvc)


def restore(data_dvc: Path, text: str, dataset: str) -> None:
    """Make data.dvc say what it said before, and a dataset what that says.

    Args:
        text: what data.dvc said; '' when there was none.

    Raises:
        CrosstrainError: DVC refused, with what it said.
    """
    if text:
        write_atomic(data_dvc, text.encode())
    else:
        data_dvc.unlink(missing_ok=True)
    record = records.read(data_dvc)
    place = record.root / dataset
    if dataset in record.datasets:
        records.dvc(data_dvc.parent, "checkout", "--force", os.path.relpath(place, data_dvc.parent))
    elif place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _check_finished(path: Path, root: Path) -> None:
    begun = ingest_journal.interrupted(root)
    inside = inside_of(path, root)
    if begun is not None and inside is not None and (not inside or begun["name"] == inside[0]):
        raise DataRefusedError(ingest_journal.advice(root, begun["name"]))


def _check_readable(root: Path) -> None:
    fingerprint(root)
    if bad := [name for name, md5 in fingerprint_files(root).items() if not md5]:
        raise DataRefusedError(
            f"{root} cannot be recorded: {len(bad)} of its files cannot be read, or are broken "
            f"links or no files: {_shown(bad)}; remove or repair them"
        )


def _recorded(path: Path, record: Record) -> dict[Path, str]:
    """The recorded datasets that `path` is, lies in or holds, with their md5."""
    inside = inside_of(path, record.root)
    if inside is None:
        return {}
    if record.of != record.md5:
        raise DataRefusedError(_written_by_dvc(record))
    return {
        record.root / name: md5
        for name, md5 in record.datasets.items()
        if not inside or name == inside[0]
    }


def inside_of(path: Path, root: Path) -> tuple[str, ...] | None:
    """Parts of a path inside a folder; None when it lies elsewhere."""
    for whole in (os.path.abspath, os.path.realpath):
        if Path(whole(path)).is_relative_to(whole(root)):
            return Path(whole(path)).relative_to(whole(root)).parts
    return None


def _written_by_dvc(record: Record) -> str:
    now = records.by_dataset(fingerprint_files(record.root)) if record.root.is_dir() else {}
    old = record.datasets
    other = [n for n in sorted(now.keys() | old.keys()) if now.get(n) != old.get(n)]
    return (
        f"{record.file} records {record.root} as {record.md5} and its datasets as of "
        f"{record.of or 'no version'}: dvc add, commit, repro or exp run wrote it, which looks at "
        f"no dataset. Datasets that differ from the recorded ones: {', '.join(other) or 'none'}\n"
        f"Take it back: restore those, and `git checkout {record.file}`. Or make what is there the "
        "recorded version: `crosstrain data accept`"
    )


def _difference(member: Path, found: str, expected: str, record: Record) -> str:
    files, restore = _recorded_files(member, expected, record)
    changes = _changes(fingerprint_files(member), files) if files and member.is_dir() else ""
    return (
        f"{member} is not the version that {record.file} records: found {found}, expected "
        f"{expected}{changes}\nRestore it: {restore}. Or make what is there the recorded version: "
        "`crosstrain data accept`"
    )


def _recorded_files(member: Path, expected: str, record: Record) -> tuple[dict[str, str], str]:
    """The files of the recorded version, where they can be known, and how to restore it."""
    cached = records.grouped(record.files()).get(member.name, {})
    if expected in (cached.get(""), of_files(cached)):
        return cached, f"`dvc checkout --force {member}`"
    demo = _demo_files(member.name)
    if of_files(demo) == expected:
        return demo, f"delete {member} and run `crosstrain data write`"
    return {}, f"delete {member} and fetch it with `dvc pull {member}`, or from where it came"


def _demo_files(name: str) -> dict[str, str]:
    from tasks.versioning import demo_data

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
        f"\n  {kind}, {len(names)}: {_shown(names)}" for kind, names in kinds.items() if names
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + " ..." * (len(names) > _SHOWN)
