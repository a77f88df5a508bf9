"""A process that forks others, which run an action in a project and may be killed on the way.

Each line of standard input is a JSON list of jobs to run at the same time, each {folder, action,
arguments, die_at, environment}. A job with ``die_at`` n is killed before its nth step. The exit
codes are written to standard output. The only argument is a project whose registry is queried
first, so that every import is done before a fork.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import mlflow.pyfunc
from mlflow import MlflowClient

from tasks.registry import versions
from tasks.tracking import models, runs

STEPS = {
    os: ["fsync"],
    mlflow.pyfunc: ["save_model"],
    MlflowClient: [
        "create_run",
        "log_batch",
        "log_inputs",
        "log_artifact",
        "log_text",
        "set_terminated",
        "create_logged_model",
        "log_model_artifacts",
        "finalize_logged_model",
        "log_model_artifact",
        "create_registered_model",
        "create_model_version",
        "set_logged_model_tags",
        "set_model_version_tag",
        "set_registered_model_alias",
        "set_registered_model_tag",
        "delete_registered_model_tag",
    ],
}


def log(key):
    arm = runs.ArmRecord("scratch/0", {"rate": 0.1}, {"accuracy": 0.5}, {"loss": [2.0, 1.0]})
    use = runs.DatasetUse("plants", "data/plants", "0" * 32, 9, "target")
    file = {"notes": Path("notes.txt")}
    runs.log_run(runs.RunRecord(key, "run", {"a": 1}, {"gain": 0.1}, {}, [use], [arm], file))


def promote(version, reason):
    versions.promote("plants", version, reasons=[reason], blessing={"verdict": "positive"})


def rollback(reason):
    versions.rollback("plants", reason)


def register(folder, key, run):
    models.register("plants", Path(folder), key, run, {})


def mortal(function, die_at, count):
    def step(*args, **kwargs):
        if count[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1
        return function(*args, **kwargs)

    return step


def begin(folders):
    run = runs.log_run(runs.RunRecord("key", "run", {}, {}, {}, [], [], {}))
    for number, folder in enumerate(folders, start=1):
        register(folder, f"model {number}", run)


def do(job):
    os.chdir(job["folder"])
    os.environ.update(job.get("environment", {}))
    count = [0]
    for owner, names in STEPS.items():
        for name in names:
            setattr(owner, name, mortal(getattr(owner, name), job.get("die_at"), count))
    globals()[job["action"]](*job["arguments"])


def start(job):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            do(job)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    versions.champion("nobody")
    for line in sys.stdin:
        children = [start(job) for job in json.loads(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)
