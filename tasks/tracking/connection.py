"""The MLflow store of a project: ``mlruns/mlflow.db`` and ``mlruns/artifacts``, or a shared one.

MLflow stores artifact locations as absolute paths. This module makes the experiment's location
relative to the project root. Later runs and models inherit it, so that the folder can be moved or
copied with its project. ``MLFLOW_TRACKING_URI`` names another store, which is used without a
change, unless it is the project's own file. The files of another store go to
``MLFLOW_DEFAULT_ARTIFACT_ROOT``, or to the place that MLflow's server chooses.
"""

import logging
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.runtime import gc_tuning
from tasks.runtime.redaction import hide
from tasks.tracking import address
from tasks.tracking.address import ARTIFACTS, DATABASE, EXPERIMENT, exists, is_own, uri
from tasks.tracking.locks import lock
from transfer.core.errors import CrosstrainError, SettingsError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "DATABASE",
    "check",
    "client",
    "exists",
    "experiment_id",
    "is_own",
    "lock",
    "translated_errors",
    "uri",
]

ROOT = "MLFLOW_DEFAULT_ARTIFACT_ROOT"
ANSWER_SECONDS = 20.0
EXTRAS = {"psycopg2": "postgres", "psycopg": "postgres", "boto3": "s3", "botocore": "s3"}


def client() -> "MlflowClient":
    """Connect to the store; create the project's own store if it does not exist.

    Raises:
        CrosstrainError: the store cannot be opened, or was made by another version of MLflow.
        SettingsError: a package that the store needs is not installed.
    """
    _import_quietly()
    from mlflow import MlflowClient

    with translated_errors(f"open the tracking store {address.shown()}"):
        if not is_own():
            _check_store(uri())
        elif not DATABASE.is_file():
            with lock("store"):
                _create()
        return MlflowClient(tracking_uri=uri())


def check() -> None:
    """Check that a shared store and the place of its files can be reached, before a run starts.

    Raises:
        CrosstrainError: the store, or the place of its files, refuses access.
        SettingsError: a package, a password or the place of its files is missing.
    """
    if is_own():
        return
    store = client()
    place = store.get_experiment(experiment_id(store)).artifact_location
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with translated_errors(f"reach {hide(place)}, where the store's files are"):
        get_artifact_repository(place, tracking_uri=uri()).list_artifacts()


@contextmanager
def translated_errors(doing: str) -> Iterator[None]:
    """Translate errors of MLflow into errors of this project, without passwords in the message.

    Args:
        doing: what MLflow is asked to do, for the message.

    Raises:
        CrosstrainError: MLflow, its database or its file storage raised an error.
        SettingsError: a package that the store needs is not installed.
    """
    try:
        yield
    except _errors() as error:
        message = hide(str(error))
        cause = error if message == str(error) else None
        raise CrosstrainError(f"MLflow could not {doing}: {message}") from cause
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        raise SettingsError(
            f"MLflow could not {doing}: {error.name} is not installed; type "
            f"pip install 'crosstrain[{EXTRAS[error.name]}]'"
        ) from error


def experiment_id(store: "MlflowClient") -> str:
    """Id of the project's experiment, created at first use; its artifact location is relative.

    Raises:
        CrosstrainError: the store refuses the experiment.
        SettingsError: the store is a database, and the place of its files is not set.
    """
    with translated_errors(f"find the experiment {EXPERIMENT}"), lock("store"):
        experiment = store.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            experiment = store.get_experiment(store.create_experiment(EXPERIMENT, _location()))
        if experiment.lifecycle_stage == "deleted":
            store.restore_experiment(experiment.experiment_id)
        if is_own() and experiment.artifact_location != ARTIFACTS:
            _make_relative(DATABASE)
        identifier: str = experiment.experiment_id
        return identifier


def _location() -> str | None:
    """The place of the experiment's files; None if the store chooses it."""
    if is_own():
        return ARTIFACTS
    if address.kind() == "http":
        return None
    if root := os.environ.get(ROOT):
        return f"{root.rstrip('/')}/{EXPERIMENT}"
    if address.kind() == "sqlite":
        return None
    raise SettingsError(
        f"MLFLOW_TRACKING_URI={address.shown()} is a database, which holds no files; set a "
        f"place for them, for example {ROOT}=s3://bucket/folder or a folder that every machine "
        "mounts"
    )


@cache
def _check_store(store: str) -> None:
    """Make sure, once in a process, that a shared store can be reached and has its tables.

    MLflow itself retries a server for minutes, and a database for an hour, before it gives up. Two
    processes that create the tables of an empty database at the same time damage it.
    """
    from mlflow import MlflowClient

    if address.kind() == "http":
        return _check_server(store)
    with lock("store"):
        MlflowClient(tracking_uri=store).search_registered_models(max_results=1)


def _check_server(store: str) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    credentials = get_default_host_creds(store)
    http_request(
        credentials, "/health", "GET", max_retries=0, timeout=ANSWER_SECONDS
    ).raise_for_status()
    try:
        MlflowClient(tracking_uri=store).search_registered_models(max_results=1)
    except MlflowException as error:
        if error.get_http_status_code() not in (401, 403):
            raise
        raise SettingsError(
            f"the MLflow server at {address.shown()} refused the user and password; set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        ) from error


def _errors() -> tuple[type[Exception], ...]:
    """Error classes of MLflow and of its libraries. Imported only after an error."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    classes = (MlflowException, RequestException, SQLAlchemyError, sqlite3.Error)
    if sys.modules.get("boto3") is None:
        return classes
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return (*classes, Boto3Error, BotoCoreError, ClientError)


def _import_quietly() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with gc_tuning.raised_threshold():
        import mlflow  # sets up its loggers, which the next lines lower

        if address.kind() != "http":
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _create() -> None:
    """Create the database under another name and rename it: an incomplete one is never opened."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if DATABASE.is_file():
        return
    unfinished = DATABASE.with_name("mlflow.db.part")
    for leftover in unfinished.parent.glob(f"{unfinished.name}*"):
        leftover.unlink()
    SqlAlchemyStore(f"sqlite:///{unfinished.absolute()}", ARTIFACTS).engine.dispose()
    _make_relative(unfinished)
    with closing(sqlite3.connect(unfinished)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    unfinished.replace(DATABASE)


def _make_relative(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE name IN ('Default', ?)",
            (ARTIFACTS, EXPERIMENT),
        )
