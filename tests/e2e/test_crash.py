"""Runs that are killed or interrupted, and taken up again: the same model, and no debris."""

import json
import signal
import socket
import sqlite3
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Crash, copy
from tests.e2e.project import LOG, Project, figures, wait

pytestmark = pytest.mark.slow

NAME = "crosstrain-small"
DATA = {"scan", "split target", "split source", "validate", "preview"}
NUMERIC = ("scan", "split", "pretrain", "adapt", "choose")


@pytest.fixture
def project(digit_project: Project, tmp_path: Path) -> Project:
    """The digits before any run."""
    return copy(digit_project, tmp_path / "project")


def digests(project: Project) -> dict[str, str]:
    """Content of every stored result that holds numbers and no clock."""
    return {
        file.parent.relative_to(project.folder).as_posix(): json.loads(file.read_text())["digest"]
        for step in NUMERIC
        for file in project.folder.glob(f"build/{step}/*/stored.json")
    }


def states(project: Project) -> set[tuple[str, str]]:
    """States of the runs, and of their tasks, in Prefect's database of a project."""
    wait(lambda: not project.processes(), seconds=20, every=0.1)
    with sqlite3.connect(project.folder / ".prefect/prefect.db") as database:
        return {
            (table, row[0])
            for table in ("flow_run", "task_run")
            for row in database.execute(f"SELECT state_type FROM {table}")
        }


def check_resumed(project: Project, trained: Project, reused: set[str]) -> None:
    """The run that took up a killed one ends as one that was never killed, and tidies up."""
    from mlflow import MlflowClient

    result = project.result()
    assert figures(result) == figures(trained.result())
    assert reused <= set(result.seconds.reused)
    present = digests(project)
    assert {place: present.get(place) for place in digests(trained)} == digests(trained)
    assert not [path for path in (project.folder / "build/partial").rglob("*") if path.is_file()]
    store = MlflowClient(f"sqlite:///{project.folder}/mlruns/mlflow.db")
    runs = store.search_runs([store.get_experiment_by_name("crosstrain").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert len(store.search_model_versions(f"name = '{NAME}'")) == 1
    assert int(store.get_model_version_by_alias(NAME, "champion").version) == 1
    ledger = (project.folder / "mlruns/ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in ledger] == ["promoted"]
    assert not (project.folder / "mlruns/promotion.journal.json").exists()


def test_interrupt_ends_training_arms_at_once_and_keeps_what_they_did(crash: Crash) -> None:
    assert crash.interrupted.code == 130
    assert crash.interrupted.seconds < 20
    assert len(crash.kept) == 2
    *steps, last = crash.interrupted.log
    assert last == "crosstrain: interrupted; run again to continue from here"
    assert all(LOG.fullmatch(line) for line in steps), crash.interrupted.log
    assert states(crash.project) <= {
        ("flow_run", "CRASHED"),
        ("task_run", "CRASHED"),
        ("task_run", "COMPLETED"),
    }


def test_run_killed_while_arms_train_ends_as_one_that_was_not(
    crash: Crash, trained: Project
) -> None:
    assert crash.killed.code == -signal.SIGKILL
    assert crash.steps
    assert all(0 < step <= trained.result().arms[0].steps for step in crash.steps)
    check_resumed(crash.project, trained, DATA | {"pretrain"})


def test_killed_run_is_closed_in_prefect_by_the_next(crash: Crash, api: str) -> None:
    tag = f"process {crash.killed.pid} of {socket.gethostname()}"
    query = {"flow_runs": {"tags": {"all_": [tag]}}}
    (run,) = httpx.post(f"{api}/flow_runs/filter", json=query).json()
    assert run["state"]["type"] == "CRASHED"
    assert run["state"]["message"] == "The process was killed; run again to continue from there."
    tasks = httpx.post(f"{api}/task_runs/filter", json=query).json()
    assert {task["state"]["type"] for task in tasks} == {"COMPLETED", "CRASHED"}


def test_killed_while_the_source_is_learned(project: Project, trained: Project) -> None:
    project.stop(signal.SIGKILL, partial(project.checkpoints, "pretrain"), "retrain")
    assert not list(project.folder.glob("build/pretrain/*/stored.json"))
    project.run("retrain")
    check_resumed(project, trained, DATA)


def test_killed_after_one_step_and_another(project: Project, trained: Project) -> None:
    for step in ("split source", "validate", "evaluate", "track", "register"):
        killed = project.stop(signal.SIGKILL, partial(_shows, project, step), "retrain")
        assert killed.code == -signal.SIGKILL
    shown = project.run("champion", "--target", "small", code=4)
    assert "has no champion yet" in shown.stderr
    project.run("retrain")
    check_resumed(project, trained, DATA | {"pretrain", "adapt", "choose", "evaluate", "draw"})
    assert {state for table, state in states(project) if table == "flow_run"} == {
        "COMPLETED",
        "CRASHED",
    }
    assert ("task_run", "RUNNING") not in states(project)


def _shows(project: Project, step: str) -> bool:
    return f"crosstrain - {step} " in project.log()
