"""Runs that are killed or interrupted, and taken up again: the same model, and no debris."""

import json
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.e2e.conftest import copy
from tests.e2e.project import LOG, Project, figures, wait

NAME = "crosstrain-small"
DATA = {"scan", "split target", "split source", "validate", "preview"}
NUMERIC = ("scan", "split", "pretrain", "adapt", "choose")


def fresh(digit_project: Project, trained: Project, folder: Path) -> Project:
    """The digits before any run, with a database of Prefect that needs no migration."""
    made = copy(digit_project, folder)
    (made.folder / ".prefect").mkdir()
    wait(lambda: not trained.processes(), seconds=20)
    with sqlite3.connect(trained.folder / ".prefect/prefect.db") as template:
        template.execute(f"VACUUM INTO '{made.folder}/.prefect/prefect.db'")
    return made


@pytest.fixture
def project(digit_project: Project, trained: Project, tmp_path: Path) -> Project:
    return fresh(digit_project, trained, tmp_path / "project")


def checkpoint_of(project: Project, step: str) -> Callable[[], list[Path]]:
    """Whether an unfinished training of a step has kept a checkpoint."""
    folder = project.folder / "build/partial" / step
    return lambda: [path for path in folder.glob("*") if path.suffix != ".tmp"]


def digests(project: Project) -> dict[str, str]:
    """Content of every stored result that holds numbers and no clock."""
    return {
        file.parent.relative_to(project.folder).as_posix(): json.loads(file.read_text())["digest"]
        for step in NUMERIC
        for file in project.folder.glob(f"build/{step}/*/stored.json")
    }


def states(project: Project, table: str) -> set[str]:
    """States of Prefect's flow runs or task runs."""
    with sqlite3.connect(project.folder / ".prefect/prefect.db") as database:
        return {row[0] for row in database.execute(f"SELECT state_type FROM {table}")}


def check_resumed(project: Project, trained: Project, reused: set[str]) -> None:
    """The run that took up a killed one ends as one that was never killed, and tidies up."""
    from mlflow import MlflowClient

    result = project.result()
    assert figures(result) == figures(trained.result())
    assert reused <= set(result.seconds.reused)
    assert digests(project) == digests(trained)
    assert not [p for p in (project.folder / "build/partial").rglob("*") if p.is_file()]
    store = MlflowClient(f"sqlite:///{project.folder}/mlruns/mlflow.db")
    runs = store.search_runs([store.get_experiment_by_name("crosstrain").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert len(store.search_model_versions(f"name = '{NAME}'")) == 1
    assert int(store.get_model_version_by_alias(NAME, "champion").version) == 1
    ledger = (project.folder / "mlruns/ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in ledger] == ["promoted"]
    assert not (project.folder / "mlruns/promotion.journal.json").exists()
    wait(lambda: not project.processes(), seconds=20, every=0.1)
    assert states(project, "flow_run") == {"COMPLETED", "CRASHED"}
    assert "RUNNING" not in states(project, "task_run")


@dataclass(frozen=True)
class Interrupted:
    """A project whose first run was interrupted while arms trained, and how that went."""

    project: Project
    code: int
    seconds: float
    log: list[str]
    checkpoints: int


@pytest.fixture(scope="module")
def interrupted(
    digit_project: Project, trained: Project, tmp_path_factory: pytest.TempPathFactory
) -> Interrupted:
    made = fresh(digit_project, trained, tmp_path_factory.mktemp("interrupted") / "project")
    began = [0.0]

    def both_train() -> bool:
        began[0] = time.monotonic()
        return len(checkpoint_of(made, "adapt")()) == 2

    words = ("retrain", "--set", "adapt.budget.steps=20000", "--set", "run.workers=2")
    code = made.stop(made.start(*words), both_train, signal.SIGINT)
    took, kept = time.monotonic() - began[0], checkpoint_of(made, "adapt")()
    wait(lambda: not made.processes(), seconds=20, every=0.1)
    for file in kept:
        file.unlink()
    return Interrupted(made, code, took, made.log().splitlines(), len(kept))


def test_interrupt_ends_training_arms_at_once_and_keeps_what_they_did(
    interrupted: Interrupted,
) -> None:
    assert interrupted.code == 130
    assert interrupted.seconds < 20
    assert interrupted.checkpoints == 2
    *steps, last = interrupted.log
    assert last == "crosstrain: interrupted; run again to continue from here"
    assert all(LOG.fullmatch(line) for line in steps), interrupted.log
    assert states(interrupted.project, "flow_run") == {"COMPLETED", "CRASHED"}
    assert "RUNNING" not in states(interrupted.project, "task_run")


def test_killed_while_arms_train(interrupted: Interrupted, trained: Project) -> None:
    project = interrupted.project
    unfinished = checkpoint_of(project, "adapt")
    code = project.stop(project.start("retrain"), unfinished, signal.SIGKILL)
    assert code == -signal.SIGKILL
    steps = [torch.load(file, weights_only=True)["step"] for file in unfinished()]
    assert steps
    assert all(0 < step <= trained.result().arms[0].steps for step in steps)
    assert len(list(project.folder.glob("build/adapt/*/stored.json"))) < 2
    wait(lambda: not project.processes(), seconds=20, every=0.1)
    project.run("retrain")
    check_resumed(project, trained, DATA | {"pretrain"})


@pytest.mark.slow
def test_killed_while_the_source_is_learned(project: Project, trained: Project) -> None:
    project.stop(project.start("retrain"), checkpoint_of(project, "pretrain"), signal.SIGKILL)
    assert not list(project.folder.glob("build/pretrain/*/stored.json"))
    project.run("retrain")
    check_resumed(project, trained, DATA)


@pytest.mark.slow
def test_killed_between_registering_and_promoting(project: Project, trained: Project) -> None:
    process = project.start("retrain")
    project.stop(process, partial(_shows, project, "register"), signal.SIGKILL)
    shown = project.run("champion", "--target", "small", code=4)
    assert "has no champion yet" in shown.stderr
    project.run("retrain")
    check_resumed(project, trained, DATA | {"pretrain", "adapt", "choose", "evaluate", "draw"})


@pytest.mark.slow
def test_killed_after_one_step_and_another(project: Project, trained: Project) -> None:
    for step in ("split source", "validate", "evaluate", "track"):
        process = project.start("retrain")
        code = project.stop(process, partial(_shows, project, step), signal.SIGKILL)
        assert code == -signal.SIGKILL
    project.run("retrain")
    check_resumed(project, trained, DATA | {"pretrain", "adapt", "choose", "evaluate", "draw"})


def _shows(project: Project, step: str) -> bool:
    return f"crosstrain - {step} " in project.log()
