"""Datasets as an older data.dvc recorded them, laid out beside the workspace.

They lie in ``build/data/<md5>/<name>``, made of the files in DVC's cache; what the cache lacks is
fetched from the remote that DVC is configured for now. The md5 decides: the same data has the same
place, and every later step the same key, whichever revision it was asked for by.
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
    """As it was named."""
    commit: str
    """Git's; empty when an md5 was named."""
    md5: str
    """Of the data folder as a whole."""

    def __str__(self) -> str:
        return f"{self.asked} ({self.commit[:12] or 'data.dvc'}, {self.md5.removesuffix('.dir')})"


def resolve(revision: str) -> Revision:
    """Find which version of the data a Git revision, or an md5 of data.dvc, names.

    Raises:
        DataRefusedError: Git knows no such revision, or there is no Git here and it is no md5; or
            there was no data.dvc, or it was no record.
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
    """Lay out a dataset as of a revision; one outside the data folder is taken as it is.

    Raises:
        DataRefusedError: the revision has no such dataset, or its files are neither in DVC's cache
            nor on its remote.
    """
    inside = dataset_versions.inside_of(settings.path, paths.DATA)
    if not inside:
        log.info("%s is not in %s: taken as it is now", settings.path, paths.DATA)
        now: Dataset = fingerprint.fn(settings)
        return now
    files = _listed(revision)
    if len(inside) == 1 and settings.path.suffix.lower() in (".csv", ".parquet"):
        inside = (paths.DATA.name, *inside)  # its pictures lie in the data folder itself
        files = {f"{paths.DATA.name}/{name}": md5 for name, md5 in files.items()}
    member = records.grouped(files).get(inside[0])
    if member is None:
        raise DataRefusedError(
            f"{settings.path} is not in the data of {revision}; it holds "
            f"{', '.join(sorted(records.grouped(files)))}"
        )
    path = _laid_out(inside[0], member, revision).joinpath(*inside[1:])
    md5 = dataset_versions.fingerprint(dataset_versions.dataset_root(path))
    return Dataset(settings.label, path, md5, str(revision))


def _listed(revision: Revision) -> dict[str, str]:
    """md5 of each file of the data folder, by its path."""
    cache = records.cache_of(Path())
    _bring(cache, [revision.md5], f"the list of files of {revision}")
    try:
        return records.listed(cache, revision.md5)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataRefusedError(
            f"the list of files of {revision} in {cache} is damaged ({error}); remove "
            f"{records.cached(cache, revision.md5)} and run again to fetch it anew"
        ) from error


def _bring(cache: Path, md5s: list[str], what: str) -> None:
    """Fetch what the cache lacks."""
    missing = _missing(cache, md5s)
    if not missing:
        return
    log.info("fetching %d of %d files: %s", len(missing), len(md5s), what)
    why = "the remote does not have them"
    try:
        records.fetch(missing)
    except CrosstrainError as error:
        why = str(error)
    if missing := _missing(cache, md5s):
        raise DataRefusedError(
            f"{what}: {len(missing)} of {len(md5s)} files are not in DVC's cache, and could not be "
            f"fetched ({why}); push them from where they are, with `dvc push --all-commits`"
        )


def _missing(cache: Path, md5s: list[str]) -> list[str]:
    return [md5 for md5 in md5s if not records.cached(cache, md5).exists()]


def _laid_out(name: str, files: Mapping[str, str], revision: Revision) -> Path:
    """The folder or file with these files, made when it is not there whole."""
    md5 = files.get("") or of_files(files)
    place = PLACE / md5.removesuffix(".dir")
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(PLACE / f".{place.name}.lock"):
        if not (place / name).exists() or dataset_versions.fingerprint(place / name) != md5:
            working = place.with_name(f".{place.name}.part")
            for old in (working, place):
                shutil.rmtree(old, ignore_errors=True)
            _lay_out(working / name, files, f"{name} as of {revision}")
            _check(working / name, files, f"{name} as of {revision}")
            working.rename(place)
            fsync(place.parent)
    return place / name


def _lay_out(folder: Path, files: Mapping[str, str], what: str) -> None:
    cache = records.cache_of(Path())
    _bring(cache, sorted(set(files.values())), what)
    for inside, md5 in files.items():
        file = folder / inside if inside else folder
        file.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(records.cached(cache, md5), file)


def _check(path: Path, files: Mapping[str, str], what: str) -> None:
    """Refuse what is not the files that were asked for: the cache is damaged."""
    found = (
        dataset_versions.fingerprint_files(path)
        if path.is_dir()
        else {"": dataset_versions.fingerprint(path)}
    )
    bad = sorted({md5 for name, md5 in files.items() if found.get(name) != md5})
    if bad:
        file = records.cached(records.cache_of(Path()), bad[0])
        raise DataRefusedError(
            f"DVC's cache is damaged: {len(bad)} files of {what} are not what their names say; "
            f"remove {file} and the like, and run again to fetch them anew"
        )
