"""The MLflow store of a project: ``mlruns/mlflow.db`` and ``mlruns/artifacts``, or a shared one.

MLflow stores artifact locations as absolute paths. Here the experiment's location is made
relative to the project root, which every later run and model inherits, so that the folder can be
moved or copied with its project. ``MLFLOW_TRACKING_URI`` names another store; that one is used as
it is, unless it is this very file. Its files go to ``MLFLOW_DEFAULT_ARTIFACT_ROOT``, or where
MLflow's server puts them.
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
    "refusals",
    "uri",
]

ROOT = "MLFLOW_DEFAULT_ARTIFACT_ROOT"
ANSWER = 20.0  # seconds
EXTRAS = {"psycopg2": "postgres", "psycopg": "postgres", "boto3": "s3", "botocore": "s3"}


def client() -> "MlflowClient":
    """Connect to the store, creating the project's own when there is none.

    Raises:
        CrosstrainError: the store cannot be opened, or is of another version of MLflow.
        SettingsError: a package that the store needs is not installed.
    """
    _be_quiet()
    from mlflow import MlflowClient

    with refusals(f"open the tracking store {address.shown()}"):
        if not is_own():
            _meet(uri())
        elif not DATABASE.is_file():
            with lock("store"):
                _create()
        return MlflowClient(tracking_uri=uri())


def check() -> None:
    """Reach a shared store and the place of its files, before work is done that is to go there.

    Raises:
        CrosstrainError: the store, or the place of its files, refuses.
        SettingsError: a package, a password or the place of its files is missing.
    """
    if is_own():
        return
    store = client()
    place = store.get_experiment(experiment_id(store)).artifact_location
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with refusals(f"reach {hide(place)}, where the store's files are"):
        get_artifact_repository(place, tracking_uri=uri()).list_artifacts()


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Name what MLflow could not do, without the passwords of what it tells.

    Raises:
        CrosstrainError: in place of MLflow's own error, or of that of its database or its files.
        SettingsError: a package that the store needs is not installed.
    """
    try:
        yield
    except _errors() as error:
        told = hide(str(error))
        cause = error if told == str(error) else None
        raise CrosstrainError(f"MLflow could not {doing}: {told}") from cause
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        raise SettingsError(
            f"MLflow could not {doing}: {error.name} is not installed; type "
            f"pip install 'crosstrain[{EXTRAS[error.name]}]'"
        ) from error


def experiment_id(store: "MlflowClient") -> str:
    """Id of the one experiment, created at first use; its artifact location is relative.

    Raises:
        CrosstrainError: the store refuses it.
        SettingsError: the store is a database, and nothing says where its files go.
    """
    with refusals(f"find the experiment {EXPERIMENT}"), lock("store"):
        found = store.get_experiment_by_name(EXPERIMENT)
        if found is None:
            found = store.get_experiment(store.create_experiment(EXPERIMENT, _location()))
        if found.lifecycle_stage == "deleted":
            store.restore_experiment(found.experiment_id)
        if is_own() and found.artifact_location != ARTIFACTS:
            _make_relative(DATABASE)
        identity: str = found.experiment_id
        return identity


def _location() -> str | None:
    """Where the files of the experiment go; None leaves it to the store."""
    if is_own():
        return ARTIFACTS
    if address.kind() == "http":
        return None
    if root := os.environ.get(ROOT):
        return f"{root.rstrip('/')}/{EXPERIMENT}"
    if address.kind() == "sqlite":
        return None
    raise SettingsError(
        f"MLFLOW_TRACKING_URI={address.shown()} is a database, which holds no files; say where "
        f"they go, for example {ROOT}=s3://bucket/folder or a folder that every machine mounts"
    )


@cache
def _meet(store: str) -> None:
    """Make sure, once in a process, that another store is there and has its tables.

    MLflow itself asks a server for minutes, and a database for an hour, before it gives up; and
    two processes that make the tables of an empty database together break it.
    """
    from mlflow import MlflowClient

    if address.kind() == "http":
        return _knock(store)
    with lock("store"):
        MlflowClient(tracking_uri=store).search_registered_models(max_results=1)


def _knock(store: str) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    known = get_default_host_creds(store)
    http_request(known, "/health", "GET", max_retries=0, timeout=ANSWER).raise_for_status()
    try:
        MlflowClient(tracking_uri=store).search_registered_models(max_results=1)
    except MlflowException as error:
        if error.get_http_status_code() not in (401, 403):
            raise
        raise SettingsError(
            f"the MLflow server at {address.shown()} wants another user and password; set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        ) from error


def _errors() -> tuple[type[Exception], ...]:
    """Errors of MLflow and of what it works with. Asked for only when there is an error."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    known = (MlflowException, RequestException, SQLAlchemyError, sqlite3.Error)
    if sys.modules.get("boto3") is None:
        return known
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return (*known, Boto3Error, BotoCoreError, ClientError)


def _be_quiet() -> None:
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
    """Make the database beside its place and rename it: a half-made one can never be opened."""
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
