"""The files of a registered version: where they are, or a copy of them on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.store.content_store import result
from tasks.tracking import connection, sqlite_reader
from transfer.core.errors import CrosstrainError, ModelFileError, SettingsError

MODEL = "artifacts/model"
"""Card and weights, in the folder of a version."""


def model_folder(name: str, version: int) -> Path:
    """Local folder of the card and the weights of a version.

    What lies in another place, such as S3, is fetched once and kept in build/: the location of a
    version never changes, nor what is there.

    Raises:
        ModelFileError: the version, or its files, are not there.
    """
    with _readable(name, version):
        location = _location(name, version)
        folder = _local(location) or _kept(location)
        return _whole(folder) / MODEL


@contextmanager
def fetched(name: str, version: int) -> Iterator[Path]:
    """Local folder of all that a version holds, as it is in the store now.

    Raises:
        ModelFileError: the version, or its files, are not there.
    """
    with TemporaryDirectory() as scratch:
        with _readable(name, version):
            location = _location(name, version)
            folder = _whole(_local(location) or _fetch(location, Path(scratch)))
        yield folder


@contextmanager
def _readable(name: str, version: int) -> Iterator[None]:
    try:
        with connection.refusals(f"find version {version} of {name}"):
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
    if known := sqlite_reader.version(name, version):
        return known.location
    store = connection.client()
    found = store.get_model_version(name, str(version))
    location: str = store.get_model_version_download_uri(found.name, found.version)
    return location


def _local(location: str) -> Path | None:
    """The folder itself, where a location is one of this machine."""
    if ":" not in location.partition("/")[0]:
        return Path(location).absolute()
    from mlflow.utils.uri import is_local_uri

    if not is_local_uri(location):
        return None
    return _fetch(location, None)


def _kept(location: str) -> Path:
    def fetch(folder: Path) -> None:
        _fetch(location, folder)

    kept = result("model", fetch, inputs={"location": location}, settings={}, code=[])
    return next(kept.path.rglob("MLmodel")).parent


def _fetch(location: str, into: Path | None) -> Path:
    from mlflow import artifacts

    place = into and str(into)
    return Path(
        artifacts.download_artifacts(location, dst_path=place, tracking_uri=connection.uri())
    )


def _whole(folder: Path) -> Path:
    (folder / MODEL / "card.json").stat()
    return folder
