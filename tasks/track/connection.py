"""The MLflow store of a project: ``mlruns/mlflow.db`` and ``mlruns/artifacts``.

MLflow stores artifact locations as absolute paths. Here the experiment's location is made
relative to the project root, which every later run and model inherits, so that the folder can be
moved or copied with its project. ``MLFLOW_TRACKING_URI`` names another store; that one is used as
it is, unless it is this very file.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from tasks import paths
from transfer.errors import CrosstrainError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "crosstrain"
ARTIFACTS = "mlruns/artifacts"
DATABASE = paths.MLRUNS / "mlflow.db"


def lock(name: str) -> FileLock:
    """A lock that one process at a time holds; a killed process lets go of it."""
    paths.MLRUNS.mkdir(exist_ok=True)
    return FileLock(paths.MLRUNS / f".{name}.lock")


def uri() -> str:
    """Address of the store: ``MLFLOW_TRACKING_URI``, or the project's own database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE.absolute()}"


def is_own() -> bool:
    """Whether the store is the project's own database."""
    path = uri().removeprefix("sqlite:///")
    return path != uri() and Path(path).resolve() == DATABASE.resolve()


def exists() -> bool:
    """Whether there is a store to ask; False in a project in which nothing was tracked yet."""
    return not is_own() or DATABASE.is_file()


def client() -> "MlflowClient":
    """Connect to the store, creating the project's own when there is none.

    Raises:
        CrosstrainError: the store cannot be opened, or is of another version of MLflow.
    """
    _be_quiet()
    from mlflow import MlflowClient

    with refusals(f"open the tracking store {uri()}"):
        if is_own() and not DATABASE.is_file():
            with lock("store"):
                _create()
        return MlflowClient(tracking_uri=uri())


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Name what MLflow could not do.

    Raises:
        CrosstrainError: in place of MLflow's own error.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise CrosstrainError(f"MLflow could not {doing}: {error}") from error


def experiment_id(store: "MlflowClient") -> str:
    """Id of the one experiment, created at first use; its artifact location is relative."""
    with lock("store"):
        found = store.get_experiment_by_name(EXPERIMENT)
        if found is None:
            location = ARTIFACTS if is_own() else None
            found = store.get_experiment(store.create_experiment(EXPERIMENT, location))
        if found.lifecycle_stage == "deleted":
            store.restore_experiment(found.experiment_id)
        if is_own() and found.artifact_location != ARTIFACTS:
            _make_relative(DATABASE)
        identity: str = found.experiment_id
        return identity


def _be_quiet() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # noqa: F401  sets up its loggers, which the next lines lower

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
