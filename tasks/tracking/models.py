"""Registers a model folder as a version of a registered model.

A version holds the model folder, the pyfunc file `serve_model` and an archive of the library's
source and of the plug-ins that the model is built from, so that it loads on a machine without this
project. It contains no pickle. The source is a single archive because a shared store needs one
request for each file.
"""

import filecmp
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from tasks.tracking import connection, sqlite_reader
from tasks.tracking.address import KEY, VERSIONS_TAG
from tasks.tracking.files import MODEL, fetched
from transfer.core import errors
from transfer.core.errors import ModelFileError
from transfer.modalities import lookup
from transfer.models.checkpoint import load_card
from transfer.models.predictor import Card

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "pydantic", "safetensors")
REGISTERED = "registered.json"
HERE = Path(__file__).parent
LIBRARY = Path(errors.__file__).parents[1]


def register(name: str, model_folder: Path, key: str, run_id: str, tags: Mapping[str, str]) -> int:
    """Register a model folder and return its version.

    A version with this key and the same files is returned without a change. Unregistered models
    that a killed process has left are deleted.

    Args:
        name: registered name, such as ``crosstrain-plants``.
        model_folder: holds card.json and weights.safetensors.
        key: digest of the model's content.
        run_id: the run that the model belongs to.
        tags: shown on the version.

    Raises:
        CrosstrainError: the store refuses the model.
        ModelFileError: the folder does not exist, or its card is of another version.
    """
    if not model_folder.is_dir():
        raise ModelFileError(
            f"{model_folder} is not a folder; expected a folder with card.json and weights"
        )
    for candidate in sqlite_reader.versions_of(name, key):
        if _has_same_files(name, candidate.number, model_folder):
            return candidate.number
    store = connection.client()
    experiment = connection.experiment_id(store)
    with connection.translated_errors(f"register {name}"), connection.lock("models"):
        versions = store.search_model_versions(f"name = '{name}' and tags.`{KEY}` = '{key}'")
        for candidate in versions:
            if _has_same_files(name, int(candidate.version), model_folder):
                _write_version_number(store, experiment, candidate)
                return int(candidate.version)
        _remove_unregistered(store, experiment, key, {v.source for v in versions})
        model = _log_model(store, experiment, model_folder, key, run_id)
        version = _create_version(store, name, model, run_id, {**tags, KEY: key})
        _write_version_number(store, experiment, version)
        return int(version.version)


def _log_model(
    store: "MlflowClient", experiment: str, model_folder: Path, key: str, run_id: str
) -> str:
    """Save the pyfunc model, upload it as a logged model of the run, and return that model."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    logged = store.create_logged_model(experiment, "model", run_id, {KEY: key})
    model_id: str = logged.model_id
    meta = Model(logged.artifact_location, run_id, model_uuid=model_id, model_id=model_id)
    with TemporaryDirectory() as scratch:
        _save_pyfunc(Path(scratch), model_folder, meta)
        store.log_model_artifacts(model_id, str(Path(scratch, "pyfunc")))
    store.finalize_logged_model(model_id, "READY")
    store.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    return logged


def _save_pyfunc(scratch: Path, model_folder: Path, meta: Any) -> None:
    from mlflow import pyfunc

    from tasks.tracking import plugin_code

    points = plugin_code.needed(model_folder)
    modality = lookup.of(load_card(model_folder, Card).spec)
    known = (*REQUIREMENTS, *modality.packages)
    required = [f"{name}=={installed(name).split('+')[0]}" for name in known]
    shutil.copytree(model_folder, scratch / "model")
    _pack_library(scratch / "library.zip", plugin_code.files(points))
    target = scratch / "pyfunc"
    pyfunc.save_model(
        target,
        python_model=str(HERE / "serve_model.py"),
        artifacts={name: str(scratch / name) for name in ("model", "library.zip")},
        pip_requirements=required + plugin_code.requirements(points, known),
        mlflow_model=meta,
    )
    flavor = meta.flavors["python_function"]  # remove the paths of this machine
    flavor["model_code_path"] = "serve_model.py"
    for name, artifact in flavor["artifacts"].items():
        artifact["uri"] = name
    meta.save(target / "MLmodel")


def _pack_library(file: Path, beside: Mapping[str, bytes]) -> None:
    """Pack the library's source as an importable archive, with further files by their path in it;
    the same source gives the same bytes."""
    own = {
        path.relative_to(LIBRARY.parent).as_posix(): path.read_bytes()
        for path in LIBRARY.rglob("*.py")
    }
    with ZipFile(file, "w") as packed:
        for name, content in sorted({**beside, **own}.items()):
            entry = ZipInfo(name)
            entry.compress_type = ZIP_DEFLATED
            packed.writestr(entry, content)


def _create_version(
    store: "MlflowClient", name: str, model: "LoggedModel", run_id: str, tags: Mapping[str, str]
) -> "ModelVersion":
    """Create a version of a logged model.

    The source is a location: MLflow would look up a ``models:/`` source in its global store, which
    may be another one. MLflow's server accepts a location only with the id of its logged model.
    """
    if not store.search_registered_models(f"name = '{name}'"):
        store.create_registered_model(name)
    return store.create_model_version(
        name, model.artifact_location, run_id, dict(tags), model_id=model.model_id
    )


def _write_version_number(store: "MlflowClient", experiment: str, version: "ModelVersion") -> None:
    """Write a model's name and version number to its files, unless they are already there.

    The number is known only after the version was created, and the model's answers contain it. It
    is also written to the tags of the logged model, as MLflow's UI does.
    """
    number = int(version.version)
    tag = {VERSIONS_TAG: sqlite_reader.versions_tag_value(version.name, number)}
    for model in _logged_models(store, experiment, version.tags[KEY]):
        if model.artifact_location != version.source or tag.items() <= model.tags.items():
            continue
        with TemporaryDirectory() as scratch:
            file = Path(scratch, REGISTERED)
            content = {"model": version.name, "version": number}
            file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
            store.log_model_artifact(model.model_id, str(file), "artifacts")
        store.set_logged_model_tags(model.model_id, tag)


def _has_same_files(name: str, version: int, folder: Path) -> bool:
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    try:
        with fetched(name, version) as stored:
            return not any(filecmp.cmpfiles(folder, stored / MODEL, names, shallow=False)[1:])
    except ModelFileError:
        return False


def _logged_models(store: "MlflowClient", experiment: str, key: str) -> list["LoggedModel"]:
    models: list[LoggedModel] = store.search_logged_models([experiment], f"tags.`{KEY}` = '{key}'")
    return models


def _remove_unregistered(
    store: "MlflowClient", experiment: str, key: str, registered: set[str]
) -> None:
    for model in _logged_models(store, experiment, key):
        if model.artifact_location not in registered:
            store.delete_logged_model(model.model_id)
