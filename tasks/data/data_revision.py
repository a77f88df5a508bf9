"""Restores older versions of datasets, as an older data.dvc recorded them, beside the workspace.

A version is written to ``build/data/<md5>/<name>`` from the files in DVC's cache. Files that the
cache lacks are fetched from DVC's current remote. The path depends on the md5 only: the same data
has the same path, and later steps have the same key, for any revision that contains it.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tasks.data.scan import fingerprint
from tasks.runtime import paths
from tasks.runtime.artifacts import Dataset
from tasks.runtime.step import log, step
from tasks.versioning import data_dvc as records
from tasks.versioning import dataset_versions, git
from tasks.versioning.dvc_md5 import of_files
from transfer.core.atomic_files import fsync, link_or_copy
from transfer.core.errors import CrosstrainError, DataRefusedError
from transfer.settings.project import DatasetSettings

PLACE = paths.BUILD / "data"


@dataclass(frozen=True)
class Revision:
    """A version of the data folder."""

    asked: str
    """The revision as the user named it."""
    commit: str
    """The Git commit; empty if the user named an md5."""
    md5: str
    """md5 of the whole data folder."""

    def __str__(self) -> str:
        return f"{self.asked} ({self.commit[:12] or 'data.dvc'}, {self.md5.removesuffix('.dir')})"


def resolve(revision: str) -> Revision:
    """Find the version of the data that a Git revision, or an md5 of data.dvc, names.

    Raises:
        DataRefusedError: it is neither a revision that Git knows nor an md5, or the revision has
            no valid data.dvc.
    """
    if commit := git.commit_of(revision):
        record = records.parse(paths.DATA_DVC, git.show(commit, paths.DATA_DVC))
        return Revision(revision, commit, record.md5)
    if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", revision):
        return Revision(revision, "", revision.removesuffix(".dir") + ".dir")
    raise DataRefusedError(
        f"{revision!r} is no revision that Git knows here, and no md5 as in {paths.DATA_DVC}; "
        f"expected a tag, a branch or a commit: `git log --oneline -- {paths.DATA_DVC}` lists them"
    )


@step("fetch", tags=["data"])
def fetch(settings: DatasetSettings, revision: Revision) -> Dataset:
    """Restore a dataset in a revision; a dataset outside the data folder is used as it is now.

    Raises:
        DataRefusedError: the revision has no such dataset, or its files are neither in DVC's cache
            nor in its remote.
    """
    inside = dataset_versions.inside_of(settings.path, paths.DATA)
    if not inside:
        log.info("%s is not in %s: its current version is used", settings.path, paths.DATA)
        current: Dataset = fingerprint.fn(settings)
        return current
    files = _file_md5s(revision)
    if len(inside) == 1 and settings.path.suffix.lower() in (".csv", ".parquet"):
        inside = (paths.DATA.name, *inside)  # its items are in the data folder itself
        files = {f"{paths.DATA.name}/{name}": md5 for name, md5 in files.items()}
    member = records.grouped(files).get(inside[0])
    if member is None:
        raise DataRefusedError(
            f"{settings.path} is not in the data of {revision}; it contains "
            f"{', '.join(sorted(records.grouped(files)))}"
        )
    path = _restored(inside[0], member, revision).joinpath(*inside[1:])
    md5 = dataset_versions.fingerprint(dataset_versions.dataset_root(path))
    return Dataset(settings.label, path, md5, str(revision))


def _file_md5s(revision: Revision) -> dict[str, str]:
    """md5 of each file of the data folder, by its path."""
    cache = records.cache_of(Path())
    _fetch_missing(cache, [revision.md5], f"the list of files of {revision}")
    try:
        return records.listed(cache, revision.md5)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataRefusedError(
            f"the list of files of {revision} in {cache} is damaged ({error}); remove "
            f"{records.cached(cache, revision.md5)} and run again to fetch it"
        ) from error


def _fetch_missing(cache: Path, md5s: list[str], what: str) -> None:
    """Fetch the files that are not in the cache."""
    missing = _missing(cache, md5s)
    if not missing:
        return
    log.info("fetching %d of %d files: %s", len(missing), len(md5s), what)
    reason = "the remote does not have them"
    try:
        records.fetch(missing)
    except CrosstrainError as error:
        reason = str(error)
    if missing := _missing(cache, md5s):
        raise DataRefusedError(
            f"{what}: {len(missing)} of {len(md5s)} files are not in DVC's cache, and could not be "
            f"fetched ({reason}); push them from a machine that has them: `dvc push --all-commits`"
        )


def _missing(cache: Path, md5s: list[str]) -> list[str]:
    return [md5 for md5 in md5s if not records.cached(cache, md5).exists()]


def _restored(name: str, files: Mapping[str, str], revision: Revision) -> Path:
    """Path of the folder or file with these files; restored if it is missing or incomplete."""
    md5 = files.get("") or of_files(files)
    place = PLACE / md5.removesuffix(".dir")
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(PLACE / f".{place.name}.lock"):
        if not (place / name).exists() or dataset_versions.fingerprint(place / name) != md5:
            working = place.with_name(f".{place.name}.part")
            for leftover in (working, place):
                shutil.rmtree(leftover, ignore_errors=True)
            _write_files(working / name, files, f"{name} as of {revision}")
            _check(working / name, files, f"{name} as of {revision}")
            working.rename(place)
            fsync(place.parent)
    return place / name


def _write_files(folder: Path, files: Mapping[str, str], what: str) -> None:
    cache = records.cache_of(Path())
    _fetch_missing(cache, sorted(set(files.values())), what)
    for inside, md5 in files.items():
        file = folder / inside if inside else folder
        file.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(records.cached(cache, md5), file)


def _check(path: Path, files: Mapping[str, str], what: str) -> None:
    """Refuse files with another md5 than requested: the cache is damaged."""
    md5s = (
        dataset_versions.fingerprint_files(path)
        if path.is_dir()
        else {"": dataset_versions.fingerprint(path)}
    )
    wrong = sorted({md5 for name, md5 in files.items() if md5s.get(name) != md5})
    if wrong:
        file = records.cached(records.cache_of(Path()), wrong[0])
        raise DataRefusedError(
            f"DVC's cache is damaged: {len(wrong)} files of {what} do not have the md5 in "
            f"their name; remove them, such as {file}, and run again to fetch them"
        )
