"""The files of a registered version: their folder, or a copy of them on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.store.content_store import result
from tasks.tracking import connection, sqlite_reader
from transfer.core.errors import CrosstrainError, ModelFileError, SettingsError

MODEL = "artifacts/model"
"""Folder of the card and the weights, inside the folder of a version."""


def model_folder(name: str, version: int) -> Path:
    """Local folder of the card and the weights of a version.

    Files in another place, such as S3, are fetched once and kept in build/: neither the location of
    a version nor its files ever change.

    Raises:
        ModelFileError: the version or its files do not exist.
    """
    with _file_errors(name, version):
        location = _location(name, version)
        folder = _local_folder(location) or _fetch_once(location)
        return _checked(folder) / MODEL


@contextmanager
def fetched(name: str, version: int) -> Iterator[Path]:
    """Local folder of all files of a version, as they are in the store now.

    Raises:
        ModelFileError: the version or its files do not exist.
    """
    with TemporaryDirectory() as scratch:
        with _file_errors(name, version):
            location = _location(name, version)
            folder = _checked(_local_folder(location) or _fetch(location, Path(scratch)))
        yield folder


@contextmanager
def _file_errors(name: str, version: int) -> Iterator[None]:
    try:
        with connection.translated_errors(f"find version {version} of {name}"):
            yield
    except SettingsError:
        raise
    except (CrosstrainError, OSError) as error:
        place = "mlruns/" if connection.is_own() else "its files in the store"
        raise ModelFileError(
            f"version {version} of {name} has no readable files ({error}); restore "
            f"{place} from a copy, or train again to register a new version"
        ) from error


def _location(name: str, version: int) -> str:
    if stored := sqlite_reader.version(name, version):
        return stored.location
    store = connection.client()
    version_info = store.get_model_version(name, str(version))
    location: str = store.get_model_version_download_uri(version_info.name, version_info.version)
    return location


def _local_folder(location: str) -> Path | None:
    """The folder itself, if a location is on this machine; otherwise None."""
    if ":" not in location.partition("/")[0]:
        return Path(location).absolute()
    from mlflow.utils.uri import is_local_uri

    if not is_local_uri(location):
        return None
    return _fetch(location, None)


def _fetch_once(location: str) -> Path:
    def fetch(folder: Path) -> None:
        _fetch(location, folder)

    stored = result("model", fetch, inputs={"location": location}, settings={}, code=[])
    return next(stored.path.rglob("MLmodel")).parent


def _fetch(location: str, folder: Path | None) -> Path:
    from mlflow import artifacts

    path = folder and str(folder)
    return Path(
        artifacts.download_artifacts(location, dst_path=path, tracking_uri=connection.uri())
    )


def _checked(folder: Path) -> Path:
    (folder / MODEL / "card.json").stat()
    return folder
