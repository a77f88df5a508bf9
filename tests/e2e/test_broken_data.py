"""A user's mistakes: the exit code, one message that says what to do, and nothing touched."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import copy
from tests.e2e.project import LOG, Project, together

Done = tuple[Project, "subprocess.CompletedProcess[str]"]
OLD = "an older report\n"
DEFECTS = ("unreadable", "changed", "one class", "absent")


def with_old_report(project: Project) -> Project:
    """Stand-ins for the last run's reports, which a refused run must leave."""
    for name in ("retrain.json", "retrain.html", "metrics.json"):
        (project.folder / "reports").mkdir(exist_ok=True)
        (project.folder / "reports" / name).write_text(OLD)
    return project


def break_files(project: Project) -> None:
    """Cut off every tenth image of the target, and mislabel copies of another tenth."""
    files = sorted((project.folder / "data/small").rglob("*.png"))
    for file in files[::10]:
        file.write_bytes(file.read_bytes()[:30])
    for file in files[5::10]:
        other = "0" if file.parent.name != "0" else "1"
        shutil.copy(file, file.parents[1] / other / f"copy{file.name}")


def record_then_change_a_byte(project: Project) -> None:
    """Let data.dvc record the data, then change one byte of one file."""
    dvc = [sys.executable, "-m", "dvc", "init", "--quiet"]
    quiet = project.environment | {"DVC_NO_ANALYTICS": "1"}
    subprocess.run(dvc, cwd=project.folder, env=quiet, check=True)
    project.run("data", "accept")
    file = sorted((project.folder / "data/large/3").iterdir())[7]
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)


def keep_one_class(project: Project) -> None:
    for folder in (project.folder / "data/small").iterdir():
        if folder.name != "4":
            shutil.rmtree(folder)


def remove_target(project: Project) -> None:
    shutil.rmtree(project.folder / "data/small")


BREAK: dict[str, Callable[[Project], None]] = {
    "unreadable": break_files,
    "changed": record_then_change_a_byte,
    "one class": keep_one_class,
    "absent": remove_target,
}


@pytest.fixture(scope="module")
def refused(
    digit_project: Project, api: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Done]:
    """A run on each broken dataset."""
    root = tmp_path_factory.mktemp("refused")

    def attempt(defect: str) -> Done:
        made = with_old_report(copy(digit_project, root / defect.replace(" ", "-"), api))
        BREAK[defect](made)
        recorded = made.folder / "data.dvc"
        before = recorded.read_bytes() if recorded.exists() else b""
        done = made.run("retrain", code=3)
        assert (recorded.read_bytes() if recorded.exists() else b"") == before
        return made, done

    return dict(
        zip(DEFECTS, together([partial(attempt, defect) for defect in DEFECTS]), strict=True)
    )


@pytest.mark.parametrize("defect", DEFECTS)
def test_refused_data_leave_reports_and_registry_alone(
    refused: dict[str, Done], defect: str
) -> None:
    project, done = refused[defect]
    assert {p.read_text() for p in (project.folder / "reports").iterdir()} == {OLD}
    assert not (project.folder / "mlruns").exists()
    assert done.stdout == ""


@pytest.mark.parametrize("defect", DEFECTS)
def test_message_of_a_refusal_stands_alone_after_the_steps(
    refused: dict[str, Done], defect: str
) -> None:
    lines = refused[defect][1].stderr.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("crosstrain: "))
    assert all(LOG.fullmatch(line) for line in lines[:start])
    assert not any(LOG.fullmatch(line) for line in lines[start:])


def test_failed_expectations_are_a_table(refused: dict[str, Done]) -> None:
    errors = refused["unreadable"][1].stderr
    assert "crosstrain: validation refused the data" in errors
    head, rule, *rows = errors[errors.index("dataset") :].splitlines()
    assert [cell.strip() for cell in head.split("|")] == [
        "dataset",
        "expectation",
        "column",
        "found",
        "expected",
    ]
    assert set(rule) == {"-", "+"}
    assert any(row.startswith("target small | files can be used") for row in rows), errors
    assert "40 of 440 fail (9.09%)" in errors
    assert "threshold: max_reject_share" in errors
    assert "threshold: max_conflict_share" in errors


def test_a_changed_byte_is_named(refused: dict[str, Done]) -> None:
    project, done = refused["changed"]
    assert "data/large is not the version that data.dvc records" in done.stderr
    file = sorted((project.folder / "data/large/3").iterdir())[7]
    assert f"changed, 1: 3/{file.name}" in done.stderr
    assert "crosstrain data accept" in done.stderr
    again = project.run("data", "verify", code=3)
    assert "data/large is not the version" in again.stderr


def test_other_refusals_say_what_to_do(refused: dict[str, Done]) -> None:
    assert "data/small holds one class, '4'" in refused["one class"][1].stderr
    assert "there is no dataset at data/small" in refused["absent"][1].stderr


def test_prefect_shows_a_refusal_as_failed_with_its_message(
    refused: dict[str, Done], api: str
) -> None:
    query: dict[str, Any] = {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}}
    runs = httpx.post(f"{api}/flow_runs/filter", json=query).json()
    assert len(runs) >= len(DEFECTS)
    messages = " ".join(run["state"]["message"] for run in runs)
    for words in ("validation refused the data", "holds one class, '4'", "there is no dataset"):
        assert words in messages


def test_settings_and_missing_things_have_their_own_exit_codes(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project")
    wrong = ("--set", "adapt.sedes=[1]")
    attempts: list[tuple[tuple[str, ...], int, str]] = [
        (("retrain", *wrong), 2, "adapt.sedes: there is no such setting; did you mean 'seeds'?"),
        (("champion", "--target", "small"), 4, "crosstrain-small has no champion yet"),
        (("report",), 4, "run `crosstrain retrain` first"),
        (("champion", "--taget", "small"), 2, "No such option"),
    ]
    jobs = [partial(project.run, *words, code=code) for words, code, _ in attempts]
    for done, (words, _, message) in zip(together(jobs), attempts, strict=True):
        assert message in done.stderr, words
        assert done.stdout == ""
    assert {path.name for path in project.folder.iterdir()} <= {"params.yaml", ".prefect"}
