"""Registered models: a model folder in, a version out.

A version holds the model folder, the pyfunc file `serve_model` and an archive of the library's
source, so that it loads on a machine that has none of this project installed. Nothing in it is
pickled. The source is one file because a shared store takes each file in a request of its own.
"""

import filecmp
import importlib
import inspect
import json
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from tasks.tracking import connection, sqlite_reader
from tasks.tracking.address import KEY, NAMED
from tasks.tracking.files import MODEL, fetched
from transfer.core import errors
from transfer.core.errors import ModelFileError
from transfer.modalities import lookup
from transfer.models.checkpoint import load_card
from transfer.models.network import COMBINED, backbone_module
from transfer.models.predictor import Card

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "pydantic", "safetensors")
REGISTERED = "registered.json"
HERE = Path(__file__).parent
LIBRARY = Path(errors.__file__).parents[1]
BACKBONES = "crosstrain.backbones"
"""Entry points of backbones."""
PLUGINS = "crosstrain_model_plugins-0.dist-info"


def register(name: str, model_folder: Path, key: str, run_id: str, tags: Mapping[str, str]) -> int:
    """Register a model folder and return its version.

    A version with this key whose files equal the folder's is returned as it is. What a killed
    process left unregistered is deleted.

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
        raise ModelFileError(f"{model_folder} is no folder; expected card.json and weights in it")
    for one in sqlite_reader.versions_of(name, key):
        if _holds(name, one.number, model_folder):
            return one.number
    store = connection.client()
    experiment = connection.experiment_id(store)
    with connection.refusals(f"register {name}"), connection.lock("models"):
        versions = store.search_model_versions(f"name = '{name}' and tags.`{KEY}` = '{key}'")
        for known in versions:
            if _holds(name, int(known.version), model_folder):
                _name(store, experiment, known)
                return int(known.version)
        _remove_unregistered(store, experiment, key, {v.source for v in versions})
        model = _log(store, experiment, model_folder, key, run_id)
        version = _version(store, name, model, run_id, {**tags, KEY: key})
        _name(store, experiment, version)
        return int(version.version)


def _log(store: "MlflowClient", experiment: str, model_folder: Path, key: str, run_id: str) -> str:
    """Save the pyfunc model, upload it as a logged model of the run, and return its location."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    logged = store.create_logged_model(experiment, "model", run_id, {KEY: key})
    identity: str = logged.model_id
    meta = Model(logged.artifact_location, run_id, model_uuid=identity, model_id=identity)
    with TemporaryDirectory() as scratch:
        _save_pyfunc(Path(scratch), model_folder, meta)
        store.log_model_artifacts(identity, str(Path(scratch, "pyfunc")))
    store.finalize_logged_model(identity, "READY")
    store.log_outputs(run_id, [LoggedModelOutput(identity, step=0)])
    return logged


def _save_pyfunc(scratch: Path, model_folder: Path, meta: Any) -> None:
    from mlflow import pyfunc

    shutil.copytree(model_folder, scratch / "model")
    card = load_card(model_folder, Card)
    _pack_library(scratch / "library.zip", _plugins(card))
    needed = (*REQUIREMENTS, *lookup.of(card.spec).packages)
    target = scratch / "pyfunc"
    pyfunc.save_model(
        target,
        python_model=str(HERE / "serve_model.py"),
        artifacts={name: str(scratch / name) for name in ("model", "library.zip")},
        pip_requirements=[f"{name}=={installed(name).split('+')[0]}" for name in needed],
        mlflow_model=meta,
    )
    flavor = meta.flavors["python_function"]  # drop what it tells of this machine's folders
    flavor["model_code_path"] = "serve_model.py"
    for name, told in flavor["artifacts"].items():
        told["uri"] = name
    meta.save(target / "MLmodel")


def _plugins(card: Card) -> dict[str, dict[str, str]]:
    """Modules of other packages that a model needs: by group of entry points, then by name."""
    modality, bodies = card.spec.modality, {member.body.name for member in card.members}
    used = {lookup.KIND.group: {modality: lookup.code(modality)}}
    for name in sorted(bodies - set(COMBINED)):
        module = backbone_module(name, modality)
        used.setdefault(BACKBONES, {})[name] = module
    own = f"{LIBRARY.name}."
    return {
        group: {name: module for name, module in modules.items() if not module.startswith(own)}
        for group, modules in used.items()
    }


def _pack_library(file: Path, plugins: Mapping[str, Mapping[str, str]]) -> None:
    """Pack the source of the library, and of what a model needs of other packages, as an importable
    archive; the same source gives the same bytes.

    The entry points of those other packages are in it too, as the metadata of one distribution.
    """
    roots = {module.split(".")[0] for modules in plugins.values() for module in modules.values()}
    with ZipFile(file, "w") as packed:
        for name, content in [
            *_sources(LIBRARY),
            *(f for root in sorted(roots) for f in _of(root)),
        ]:
            _pack(packed, name, content)
        if roots:
            points = [
                f"[{group}]\n" + "".join(f"{name} = {m}\n" for name, m in modules.items())
                for group, modules in plugins.items()
            ]
            head = "Metadata-Version: 2.1\nName: crosstrain-model-plugins\nVersion: 0\n"
            _pack(packed, f"{PLUGINS}/METADATA", head.encode())
            _pack(packed, f"{PLUGINS}/entry_points.txt", "\n".join(points).encode())


def _pack(packed: ZipFile, name: str, content: bytes) -> None:
    told = ZipInfo(name)
    told.compress_type = ZIP_DEFLATED
    packed.writestr(told, content)


def _sources(package: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package.parent).as_posix(), path.read_bytes()


def _of(root: str) -> Iterator[tuple[str, bytes]]:
    """The source of an installed package, or of a module that is a single file."""
    file = Path(inspect.getfile(importlib.import_module(root)))
    if file.name == "__init__.py":
        return _sources(file.parent)
    return iter([(file.name, file.read_bytes())])


def _version(
    store: "MlflowClient", name: str, model: "LoggedModel", run_id: str, tags: Mapping[str, str]
) -> "ModelVersion":
    """Make a version of a logged model.

    The source is a location: MLflow looks a ``models:/`` source up in its global store, which
    need not be this one. Its server takes a location only with the id of the model that is there.
    """
    if not store.search_registered_models(f"name = '{name}'"):
        store.create_registered_model(name)
    return store.create_model_version(
        name, model.artifact_location, run_id, dict(tags), model_id=model.model_id
    )


def _name(store: "MlflowClient", experiment: str, version: "ModelVersion") -> None:
    """Write beside a model's files which version it became, unless that was done.

    The number is known only once the version is there, and the model's answers bear it. It is also
    put into the logged model's own tags, as MLflow's UI does.
    """
    number = int(version.version)
    tag = {NAMED: sqlite_reader.named(version.name, number)}
    for model in _logged(store, experiment, version.tags[KEY]):
        if model.artifact_location != version.source or tag.items() <= model.tags.items():
            continue
        with TemporaryDirectory() as scratch:
            file = Path(scratch, REGISTERED)
            told = {"model": version.name, "version": number}
            file.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
            store.log_model_artifact(model.model_id, str(file), "artifacts")
        store.set_logged_model_tags(model.model_id, tag)


def _holds(name: str, version: int, folder: Path) -> bool:
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    try:
        with fetched(name, version) as kept:
            return not any(filecmp.cmpfiles(folder, kept / MODEL, names, shallow=False)[1:])
    except ModelFileError:
        return False


def _logged(store: "MlflowClient", experiment: str, key: str) -> list["LoggedModel"]:
    found: list[LoggedModel] = store.search_logged_models([experiment], f"tags.`{KEY}` = '{key}'")
    return found


def _remove_unregistered(
    store: "MlflowClient", experiment: str, key: str, registered: set[str]
) -> None:
    for model in _logged(store, experiment, key):
        if model.artifact_location not in registered:
            store.delete_logged_model(model.model_id)
