"""Versions of raw data: checks a dataset against data.dvc, and records a new version.

Only `accept` and `restore` write data.dvc. After a DVC command has written it, the data is refused.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.versioning import data_dvc as records
from tasks.versioning import ingest_journal
from tasks.versioning.data_dvc import DataRecord
from tasks.versioning.dvc_md5 import fingerprint, fingerprint_files, of_bytes, of_files
from transfer.core.atomic_files import write_atomic
from transfer.core.errors import CrosstrainError, DataRefusedError, SettingsError

__all__ = [
    "accept",
    "check_remote",
    "check_repository",
    "dataset_root",
    "fingerprint",
    "fingerprint_files",
    "inside_of",
    "preserve",
    "restore",
    "verify",
    "verify_all",
]

_SHOWN = 5  # file names of each kind in a message


def verify(path: Path, data_dvc: Path) -> str:
    """Compute the md5 of a dataset, and refuse it if data.dvc records another version of it.

    A dataset that data.dvc does not record is accepted: it is outside the data folder, or new in
    it. A manifest file stands for its folder, which contains the files of its items.

    Raises:
        DataRefusedError: the dataset differs, is missing or cannot be read; data.dvc is not valid,
            or a DVC command wrote it; an ingest into the dataset is not finished.
    """
    path = dataset_root(path)
    record = records.read(data_dvc)
    _check_finished(path, record.root)
    dataset_md5 = fingerprint(path)
    for member, expected in _recorded(path, record).items():
        md5 = dataset_md5 if member.resolve() == path.resolve() else fingerprint(member)
        if md5 != expected:
            raise DataRefusedError(_difference(member, md5, expected, record))
    return dataset_md5


def dataset_root(path: Path) -> Path:
    """The dataset's file or folder; for a manifest file, its folder."""
    is_manifest = path.suffix.lower() in (".csv", ".parquet") and path.is_file()
    return path.parent if is_manifest else path


def verify_all(data_dvc: Path, used: Sequence[Path] = ()) -> dict[str, str]:
    """Verify the datasets in `used`, or all that data.dvc records; the md5 of each by its path.

    Raises:
        DataRefusedError: as in `verify`, for the first dataset that is refused.
    """
    record = records.read(data_dvc)
    paths = dict.fromkeys(used or _recorded(record.root, record))
    return {path.as_posix(): verify(path, data_dvc) for path in paths}


def accept(data_dvc: Path, *, ingesting: bool = False) -> dict[str, str]:
    """Record the current data folder as the new version, and put its files in DVC's cache.

    Args:
        ingesting: whether this is the last step of an ingest, which is not finished yet.

    Returns:
        md5 of each dataset in the data folder, by its name.

    Raises:
        DataRefusedError: there is no data folder, a file in it cannot be read, data.dvc is not
            valid, or an ingest is not finished.
        CrosstrainError: DVC failed, or the data changed during the recording.
    """
    record = records.read(data_dvc)
    if not ingesting:
        _check_finished(record.root, record.root)
    _check_readable(record.root)
    record = records.add(record)
    files = fingerprint_files(record.root)
    if of_files(files) != record.md5:
        raise CrosstrainError(
            f"DVC recorded {record.root} as {record.md5}, but it is now {of_files(files)}: it was "
            "changed during the recording, or .dvcignore excludes files in it; stop the program "
            "that writes there, or move those files, and run `crosstrain data accept` again"
        )
    datasets = records.by_dataset(files)
    records.write_datasets(record, datasets)
    return datasets


def check_repository(data_dvc: Path) -> None:
    """Make sure that DVC can record the data.

    Raises:
        SettingsError: the project is not a DVC repository.
    """
    folder = data_dvc.absolute().parent
    if not any((above / ".dvc").is_dir() for above in (folder, *folder.parents)):
        raise SettingsError(
            f"{folder} is not a DVC repository, so no version of the data can be recorded; make it "
            "one with `git init && dvc init`, or `dvc init --no-scm` where there is no Git"
        )


def check_remote(data_dvc: Path) -> None:
    """Make sure that DVC has a remote to push to.

    Raises:
        SettingsError: DVC has no default remote.
    """
    try:
        records.dvc(data_dvc.parent, "remote", "default")
    except CrosstrainError as error:
        raise SettingsError(
            "there is no DVC remote to push to; name one with `dvc remote add --default NAME URL`"
        ) from error


def preserve(data_dvc: Path) -> None:
    """Put the current data folder in DVC's cache, if it is not there, so that it can be restored.

    Raises:
        DataRefusedError: as in `accept`.
        CrosstrainError: DVC failed; the message contains its output.
    """
    record = records.read(data_dvc)
    files = fingerprint_files(record.root) if record.root.is_dir() else {}
    if files and (of_files(files) != record.md5 or records.uncached(record, files.values())):
        accept(data_dvc)


def restore(data_dvc: Path, text: str, dataset: str) -> None:
    """Restore an older data.dvc, and the version of a dataset that it records.

    Args:
        text: the older content of data.dvc; '' if the file did not exist.
        dataset: name of the dataset.

    Raises:
        CrosstrainError: DVC failed; the message contains its output.
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
    plan = ingest_journal.interrupted(root)
    inside = inside_of(path, root)
    if plan is not None and inside is not None and (not inside or plan["name"] == inside[0]):
        raise DataRefusedError(ingest_journal.advice(root, plan["name"]))


def _check_readable(root: Path) -> None:
    fingerprint(root)
    if faulty := [name for name, md5 in fingerprint_files(root).items() if not md5]:
        raise DataRefusedError(
            f"{root} cannot be recorded: {len(faulty)} of its files cannot be read, or are broken "
            f"links or not regular files: {_shown(faulty)}; remove or repair them"
        )


def _recorded(path: Path, record: DataRecord) -> dict[Path, str]:
    """The recorded datasets that are equal to `path`, contain it or lie in it, with their md5."""
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
    """Parts of a path inside a folder; None if it is outside the folder."""
    for resolve in (os.path.abspath, os.path.realpath):
        if Path(resolve(path)).is_relative_to(resolve(root)):
            return Path(resolve(path)).relative_to(resolve(root)).parts
    return None


def _written_by_dvc(record: DataRecord) -> str:
    current = records.by_dataset(fingerprint_files(record.root)) if record.root.is_dir() else {}
    recorded = record.datasets
    changed = [
        n for n in sorted(current.keys() | recorded.keys()) if current.get(n) != recorded.get(n)
    ]
    return (
        f"{record.file} records {record.root} as {record.md5} and its datasets as of "
        f"{record.of or 'no version'}: it was written by dvc add, commit, repro or exp run, which "
        f"check no dataset. Datasets that differ from the recorded ones: "
        f"{', '.join(changed) or 'none'}\n"
        f"To undo this, restore those datasets, and run `git checkout {record.file}`. To record "
        "the current data as the new version, run `crosstrain data accept`"
    )


def _difference(member: Path, md5: str, expected: str, record: DataRecord) -> str:
    files, restore = _recorded_files(member, expected, record)
    changes = _changes(fingerprint_files(member), files) if files and member.is_dir() else ""
    return (
        f"{member} is not the version that {record.file} records: found {md5}, expected "
        f"{expected}{changes}\nTo restore it: {restore}. To record the current data as the new "
        "version: `crosstrain data accept`"
    )


def _recorded_files(member: Path, expected: str, record: DataRecord) -> tuple[dict[str, str], str]:
    """The files of the recorded version, empty if not known, and how to restore the version."""
    cached = records.grouped(record.files()).get(member.name, {})
    if expected in (cached.get(""), of_files(cached)):
        return cached, f"`dvc checkout --force {member}`"
    demo_files = _demo_files(member.name)
    if of_files(demo_files) == expected:
        return demo_files, f"delete {member} and run `crosstrain data write`"
    return {}, f"delete {member} and fetch it with `dvc pull {member}`, or from its origin"


def _demo_files(name: str) -> dict[str, str]:
    from tasks.versioning import demo_data

    try:
        return {path: of_bytes(content) for path, content in demo_data.image_files(name)}
    except (CrosstrainError, LookupError):
        return {}


def _changes(current: Mapping[str, str], expected: Mapping[str, str]) -> str:
    names_by_change = {
        "changed": [n for n in expected if n in current and current[n] != expected[n]],
        "missing": [n for n in expected if n not in current],
        "added": [n for n in current if n not in expected],
    }
    return "".join(
        f"\n  {change}, {len(names)}: {_shown(names)}"
        for change, names in names_by_change.items()
        if names
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + " ..." * (len(names) > _SHOWN)
