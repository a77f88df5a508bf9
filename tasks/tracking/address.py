"""The address of the MLflow store: the project's own database, or ``MLFLOW_TRACKING_URI``."""

import os
from pathlib import Path

from tasks.runtime import paths
from tasks.runtime.redaction import hide

DATABASE = paths.MLRUNS / "mlflow.db"
EXPERIMENT = "crosstrain"
ARTIFACTS = "mlruns/artifacts"
KEY = "crosstrain.key"
"""Tag with the digest of what a run or a model was made from; runs are looked up by it."""
VERSIONS_TAG = "mlflow.modelVersions"
"""Tag of a logged model with its registered name and version, as MLflow's UI writes it."""


def uri() -> str:
    """Address of the store. It may contain a password: messages must use `shown` instead."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE.absolute()}"


def shown() -> str:
    """Address of the store without its password."""
    return hide(uri())


def kind() -> str:
    """Kind of the store: ``sqlite``, ``postgresql``, ``http`` and so on, without the driver."""
    scheme = uri().partition("://")[0].partition("+")[0]
    return {"https": "http", "postgres": "postgresql"}.get(scheme, scheme)


def is_own() -> bool:
    """Whether the store is the project's own database."""
    path = uri().removeprefix("sqlite:///")
    return path != uri() and Path(path).resolve() == DATABASE.resolve()


def folder() -> Path:
    """Folder for the lock files: that of an SQLite store, which all its users share, or mlruns/."""
    if kind() == "sqlite" and not is_own():
        return Path(uri().partition("///")[2].partition("?")[0]).parent
    return paths.MLRUNS


def exists() -> bool:
    """Whether there is a store; False in a project in which nothing was tracked yet."""
    return not is_own() or DATABASE.is_file()
