"""Logs one parent run for a retraining, and one child run for each of its arms."""

import json
import math
import posixpath
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.tracking import connection, sqlite_reader
from tasks.tracking.address import KEY
from transfer.core.errors import CrosstrainError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class DatasetUse:
    """A dataset in the version that a run used."""

    name: str
    path: str
    md5: str  # DVC's fingerprint of the file or folder
    items: int
    role: str  # source or target


@dataclass(frozen=True)
class ArmRecord:
    """An arm: a method with a source and a seed."""

    name: str  # method/seed
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Curves by name; ``step`` holds the steps of all others, which otherwise count from 0."""
    seconds: float = 0.0
    """Wall time of the training, shown as the duration of the MLflow run."""


@dataclass(frozen=True)
class RunRecord:
    """What MLflow keeps of a retraining."""

    key: str
    """Digest of everything that the result depends on; there is one finished run for each key."""
    name: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    datasets: Sequence[DatasetUse]
    arms: Sequence[ArmRecord]
    artifacts: Mapping[str, Path]
    """Local file or folder, by the artifact folder that it is copied to; '' is the top folder."""
    seconds: float = 0.0


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and text; a list is one JSON value."""
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            flat[f"{prefix}{name}"] = text
    return flat


def log_run(record: RunRecord) -> str:
    """Log a finished retraining and return the id of its parent run.

    A finished run with the record's key is returned without a change. Unfinished runs of a killed
    process are marked as killed and deleted, with their children.

    Raises:
        CrosstrainError: an artifact does not exist, or the store refuses the record.
    """
    if missing := [str(path) for path in record.artifacts.values() if not path.exists()]:
        raise CrosstrainError(f"cannot log {missing}: no such file or folder")
    if finished := sqlite_reader.finished_run(record.key):
        return finished
    store = connection.client()
    experiment = connection.experiment_id(store)
    with connection.translated_errors(f"log run {record.name}"), connection.lock("runs"):
        if finished_runs := _search(
            store, experiment, f"status = 'FINISHED' and {_has(KEY, record.key)}"
        ):
            return finished_runs[0]
        _remove_unfinished(store, experiment, record.key)
        try:
            return _log_parent(store, experiment, record)
        finally:
            _remove_unfinished(store, experiment, record.key)


def _log_parent(store: "MlflowClient", experiment: str, record: RunRecord) -> str:
    tags = {**record.tags, KEY: record.key}
    run = _start(store, experiment, record.name, tags, record.seconds)
    _log_values(store, run, flatten(record.settings), record.metrics, {})
    store.log_inputs(run, [_dataset_input(use) for use in record.datasets])
    for arm in record.arms:
        _log_arm(store, experiment, run, arm)
    for folder, path in record.artifacts.items():
        log = store.log_artifacts if path.is_dir() else store.log_artifact
        log(run, str(path), folder or None)
    store.set_terminated(run, "FINISHED")
    return run


def _log_arm(store: "MlflowClient", experiment: str, parent: str, arm: ArmRecord) -> None:
    run = _start(store, experiment, arm.name, {PARENT: parent}, arm.seconds)
    _log_values(store, run, flatten(arm.params), arm.metrics, arm.history)
    store.set_terminated(run, "FINISHED")


def _start(
    store: "MlflowClient", experiment: str, name: str, tags: Mapping[str, str], seconds: float
) -> str:
    start_ms = int((time.time() - seconds) * 1000)
    run = store.create_run(experiment, start_ms, dict(tags), name)
    run_id: str = run.info.run_id
    return run_id


def _log_values(
    store: "MlflowClient",
    run: str,
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    history: Mapping[str, Sequence[float]],
) -> None:
    from mlflow.entities import Param

    names = _allowed([*params, *metrics, *history])
    for batch in _batches((Param(names[k], v) for k, v in params.items()), 100):
        store.log_batch(run, params=batch)
    values = {names[k]: [v] for k, v in metrics.items()}
    steps = history.get("step")
    curves = {names[k]: v for k, v in history.items() if k != "step"}
    points = [*_points(values, None), *_points(curves, steps)]
    for batch in _batches((p for p in points if math.isfinite(p.value)), 1000):
        store.log_batch(run, metrics=batch)
    if not_finite := sorted({p.key for p in points if not math.isfinite(p.value)}):
        store.set_tag(run, "crosstrain.not_finite", ", ".join(not_finite))


def _points(
    curves: Mapping[str, Sequence[float]], steps: Sequence[float] | None
) -> Iterator["Metric"]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    for name, values in curves.items():
        for step, value in zip(steps or range(len(values)), values, strict=True):
            yield Metric(name, float(value), now, int(step))


def _dataset_input(use: DatasetUse) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": use.path, "md5": use.md5})
    profile = json.dumps({"num_rows": use.items})
    dataset = Dataset(use.name, use.md5[:36], "local", source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", use.role)])


def _remove_unfinished(store: "MlflowClient", experiment: str, key: str) -> None:
    """Delete unfinished runs. The caller holds the lock, so no process is logging to them."""
    condition = f"{_has(KEY, key)}" if not connection.is_own() else f"tags.`{KEY}` != ''"
    for run in _search(store, experiment, f"status = 'RUNNING' and {condition}"):
        for orphan in [*_search(store, experiment, _has(PARENT, run)), run]:
            store.set_terminated(orphan, "KILLED")
            store.delete_run(orphan)


def _search(store: "MlflowClient", experiment: str, query: str) -> list[str]:
    return [run.info.run_id for run in store.search_runs([experiment], query)]


def _has(tag: str, value: str) -> str:
    return f"tags.`{tag}` = '{value}'"


def _allowed(names: Iterable[str]) -> dict[str, str]:
    """Names in the form that MLflow accepts, by the original; different names stay different."""
    allowed: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.\- :/]", "_", name)[:200] or "_"
        if posixpath.normpath(plain) != plain or plain[0] in "./":
            plain = re.sub(r"[./]", "_", plain)
        while plain in allowed.values() and name not in allowed:
            plain += "_"
        allowed.setdefault(name, plain)
    return allowed


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
