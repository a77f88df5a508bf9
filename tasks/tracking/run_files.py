"""Files in the artifacts of a finished run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from tasks.tracking import connection
from transfer.core.errors import CrosstrainError, ModelFileError


def folder_of(run_id: str, name: str) -> Path:
    """Local copy of a folder, or a file, of a run's artifacts.

    Raises:
        ModelFileError: the run or its files do not exist.
    """
    from mlflow import artifacts

    store = connection.client()
    try:
        with connection.translated_errors(f"find run {run_id}"):
            location = store.get_run(run_id).info.artifact_uri
            uri = f"{location}/{name}"
            return Path(artifacts.download_artifacts(uri, tracking_uri=connection.uri()))
    except (CrosstrainError, OSError) as error:
        raise ModelFileError(
            f"run {run_id} has no readable {name} ({error}); restore mlruns/ from a copy, or train "
            "again"
        ) from error


def load_arrays(run_id: str, path: str) -> dict[str, NDArray[np.floating]]:
    """Load the arrays that `keep_arrays` has written.

    Raises:
        ModelFileError: the file does not exist, or is damaged.
    """
    file = folder_of(run_id, path)
    try:
        with np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} of run {run_id} is damaged: {error}") from error


def keep_arrays(run_id: str, path: str, arrays: Mapping[str, NDArray[np.floating]]) -> None:
    """Write named arrays as one .npz file to a run's artifacts."""
    store, place = connection.client(), Path(path)
    with TemporaryDirectory() as scratch, connection.translated_errors(f"keep {path}"):
        np.savez_compressed(Path(scratch) / place.name, **arrays)  # type: ignore[arg-type]
        store.log_artifact(run_id, str(Path(scratch) / place.name), str(place.parent))


def keep_files(run_id: str, folder: str, files: Sequence[Path]) -> None:
    """Copy files to a folder of a run's artifacts; a file of the same name is replaced.

    Raises:
        CrosstrainError: the store refuses them, or one does not exist.
    """
    store = connection.client()
    with connection.translated_errors(f"keep files of run {run_id}"):
        for file in files:
            store.log_artifact(run_id, str(file), folder)


def tag_version(name: str, version: int, tags: Mapping[str, str]) -> None:
    """Set tags of a registered version.

    Raises:
        CrosstrainError: there is no such version.
    """
    store = connection.client()
    with connection.translated_errors(f"tag version {version} of {name}"):
        for key, value in tags.items():
            store.set_model_version_tag(name, str(version), key, value)
