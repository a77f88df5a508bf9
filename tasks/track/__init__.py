"""The only place that knows MLflow: runs, registered models and the store they live in.

Everything is logged after the fact, by run id, never through MLflow's per-thread active run.
"""

from typing import TYPE_CHECKING

from tasks.track import glance
from tasks.track.address import exists, is_own
from tasks.track.connection import check, client, refusals
from tasks.track.files import model_folder
from tasks.track.fresh import Answers, expect, load_back
from tasks.track.keep import folder_of, keep_arrays, keep_files, load_arrays, tag_version
from tasks.track.locks import is_everywhere, lock
from tasks.track.models import register
from tasks.track.runs import ArmRecord, DatasetUse, RunRecord, flatten, log_run

if TYPE_CHECKING:
    from mlflow import MlflowClient as Client

__all__ = [
    "Answers",
    "ArmRecord",
    "Client",
    "DatasetUse",
    "RunRecord",
    "check",
    "client",
    "exists",
    "expect",
    "flatten",
    "folder_of",
    "glance",
    "is_everywhere",
    "is_own",
    "keep_arrays",
    "keep_files",
    "load_arrays",
    "load_back",
    "lock",
    "log_run",
    "model_folder",
    "refusals",
    "register",
    "tag_version",
]
