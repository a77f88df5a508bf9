"""Runs with a time budget: in time, with a decision, and honest about what was left out."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import copy
from tests.e2e.project import Project, figures
from tests.e2e.test_chain import stored
from transfer.evaluation.report_schema import Result

MUCH = {
    "adapt.methods": "[linear_probe, fine_tune, l2_sp]",
    "adapt.seeds": "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]",
    "adapt.training.steps": "1000",
}
"""More than there is time for."""


def words(changes: dict[str, str]) -> list[str]:
    return [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]


def check_fair(result: Result) -> None:
    """Every arm that may be chosen has the seeds and the steps of the baseline."""
    seeds: dict[str, set[int]] = {}
    for arm in result.arms:
        seeds.setdefault(arm.group, set()).add(arm.seed)
    groups = {arm.group for arm in result.arms if arm.finalist}
    assert "scratch" in groups and len(groups) > 1
    assert {frozenset(seeds[name]) for name in groups} == {frozenset(seeds["scratch"])}
    assert all(seeds[name] == {0} for name in seeds.keys() - groups)
    assert len({arm.steps for arm in result.arms}) == 1


@pytest.mark.slow
def test_what_has_no_time_is_left_out_and_a_later_run_gets_further(
    digit_project: Project, trained: Project, api: str, tmp_path: Path
) -> None:
    budget = round(40 + 1.5 * trained.result().seconds.total)  # of one arm; this machine's pace
    project = copy(digit_project, tmp_path / "project", api)
    asked = {(m, s) for m in ("scratch", "linear_probe", "fine_tune", "l2_sp") for s in range(12)}
    done: set[str] = set()
    for _ in range(2):
        began = time.monotonic()
        shown = project.run("retrain", "--budget", f"{budget}s", *words(MUCH))
        assert time.monotonic() - began <= 1.1 * budget
        result = project.result()
        check_fair(result)
        assert result.version is not None and result.rules
        spent_budget = result.budget
        assert (
            spent_budget is not None and spent_budget.ran_out and spent_budget.spent <= 1.1 * budget
        )
        trained = {(arm.group, arm.seed) for arm in result.arms}
        gone = {tuple(name.split("/")) for name in spent_budget.left_out}
        assert {(m, str(s)) for m, s in asked - trained} == gone
        assert "Time ran out" in shown.stdout
        assert "Time ran out" in (project.folder / "reports/retrain.html").read_text()
        record = blessing(project, result)
        assert record["budget"]["left_out"] == spent_budget.left_out
        now = set(stored(project))
        assert done < now
        done = now


def blessing(project: Project, result: Result) -> dict[str, Any]:
    from mlflow import MlflowClient

    store = MlflowClient(f"sqlite:///{project.folder}/mlruns/mlflow.db")
    tags = store.get_model_version(result.model, str(result.version)).tags
    record: dict[str, Any] = json.loads(tags.get("blessing") or tags["refusal"])
    return record


def test_what_has_time_is_what_it_would_be_without_a_budget(
    trained: Project, api: str, tmp_path: Path
) -> None:
    project = copy(trained, tmp_path / "project", api)
    project.run("retrain", "--budget", "1h")
    result = project.result()
    assert stored(project) == stored(trained)
    assert figures(result) | {"budget": None} == figures(trained.result())
    assert result.budget is not None and not result.budget.ran_out
