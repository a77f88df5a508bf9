"""Crosstrain in operation: runs that are requested, queued, killed, started by events, approved."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows.runtime.form import FIELDS
from tests.e2e.conftest import copy
from tests.e2e.project import Project, wait
from tests.e2e.served import Served, serve, stop
from tests.ports import free_port

pytestmark = pytest.mark.slow


def more(served: Served) -> dict[str, Any]:
    """Settings that the form of a retrain holds by name."""
    values: dict[str, Any] = served.deployment("retrain")["parameters"]["settings"]["more"]
    return values


def test_every_flow_is_offered_with_a_form_of_its_settings(served: Served) -> None:
    offered = served.deployment("retrain")
    form = offered["parameter_openapi_schema"]
    fields = form["properties"]["settings"]["properties"]
    assert list(fields) == [*FIELDS, "more"] and len(fields) <= 12
    assert all(field["description"] for field in fields.values())
    assert fields["device"]["enum"]
    assert offered["parameters"]["settings"]["target"] == "data/small"
    assert offered["parameters"]["settings"]["more"]["backbone.width"] == 4
    assert [entry["schedule"]["cron"] for entry in offered["schedules"]] == ["0 3 * * *"]
    automations = served.ask("GET", f"/automations/related-to/prefect.deployment.{offered['id']}")
    assert sorted(entry["name"] for entry in automations) == [
        "retrain on data-changed",
        "retrain on retrain-wanted",
    ]
    assert (
        "retrain  at 0 3 * * * (UTC), on data-changed, on retrain-wanted, on request"
        in served.project.log()
    )


def test_a_value_out_of_range_is_refused_before_a_run_is_made(served: Served) -> None:
    for field, value in (("device", "toaster"), ("test", 3), ("image", {"size": 3})):
        with pytest.raises(httpx.HTTPStatusError, match="409"):
            served.start(**{f"settings__{field}": value})
    runs = served.ask("POST", "/flow_runs/filter")
    assert [run["name"] for run in runs if "auto-scheduled" not in run["tags"]] == []


def test_a_setting_by_a_name_that_there_is_not_ends_the_run_with_the_reason(served: Served) -> None:
    identity = served.start(settings__more={"adapt.sedes": [1]})
    state = served.finished(identity)["state"]
    assert state["type"] == "FAILED"
    assert "adapt.sedes: there is no such setting; did you mean 'seeds'?" in state["message"]


def test_two_retrains_queue_and_the_second_finds_everything_stored(served: Served) -> None:
    first, second = served.start(), served.start()
    state_pairs = set()

    def both_end() -> bool:
        states = [served.run(identity)["state"]["type"] for identity in (first, second)]
        state_pairs.add(tuple(states))
        return states == ["COMPLETED", "COMPLETED"]

    wait(both_end, seconds=240, every=0.2)
    assert ("RUNNING", "RUNNING") not in state_pairs
    assert [event["event"] for event in served.ledger()] == ["promoted"]
    assert "deployment retrain on request" in served.ledger()[0]["who"]
    artifacts = served.ask("POST", "/artifacts/filter", artifacts={"key": {"any_": ["verdict"]}})
    assert "small" in artifacts[0]["data"]


def test_a_killed_run_is_marked_and_goes_on(served: Served) -> None:
    identity = served.start(settings__steps=400)
    os.kill(served.pid(identity), signal.SIGKILL)
    run = served.finished(identity)
    assert run["state"]["type"] == "COMPLETED"
    assert run["run_count"] == 2
    assert "CRASHED" in served.history(identity)


def test_new_data_starts_a_retrain(served: Served) -> None:
    code = (
        "from flows.runtime.events import announce; announce('data-changed', 'small', {'added': 3})"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=served.project.folder,
        env=served.project.environment | {"PREFECT_API_URL": served.api},
        check=True,
    )
    query = {"flow_runs": {"tags": {"all_": ["crosstrain"]}}, "sort": "START_TIME_DESC"}

    def by_automation() -> list[dict[str, Any]]:
        runs = served.ask("POST", "/flow_runs/filter", **query)
        return [run for run in runs if (run["created_by"] or {}).get("type") == "AUTOMATION"]

    wait(by_automation, seconds=60, every=0.3)
    assert served.finished(by_automation()[0]["id"])["state"]["type"] == "COMPLETED"


def test_everything_killed_goes_on_when_it_is_served_again(served: Served) -> None:
    identity = served.start(settings__steps=600)
    served.pid(identity)
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] == str(served.project.folder):
            process.kill()
    served.process.wait()
    wait(lambda: not served.project.processes(), seconds=30, every=0.1)
    served.process = serve(served.project, served.ports).process
    run = served.finished(identity)
    assert (run["state"]["type"], run["run_count"]) == ("COMPLETED", 2)


@pytest.mark.parametrize(("agrees", "event"), [(True, "promoted"), (False, "refused")])
def test_a_person_decides(served: Served, agrees: bool, event: str) -> None:
    steps = 25 if agrees else 26
    identity = served.start(
        settings__approval=True,
        settings__more={**more(served), "promote.rules": [{"rule": "servable"}]},
        settings__steps=steps,
    )
    wait(lambda: served.run(identity)["state"]["type"] == "PAUSED", seconds=120, every=0.3)
    answer = {"approve": agrees, "name": "Ada", "reason": "I looked"}
    served.ask("POST", f"/flow_runs/{identity}/resume", run_input=answer)
    assert served.finished(identity)["state"]["type"] == "COMPLETED"
    last = served.ledger()[-1]
    assert last["event"] == event
    assert last["reasons"][0] == f"{'agreed' if agrees else 'not agreed'}, Ada: I looked"


def test_silence_is_no_consent(served: Served) -> None:
    identity = served.start(
        settings__approval=True,
        settings__more={
            **more(served),
            "promote.approval_hours": 0.001,
            "promote.rules": [{"rule": "servable"}],
        },
        settings__steps=27,
    )
    assert served.finished(identity)["state"]["type"] == "COMPLETED"
    last = served.ledger()[-1]
    assert last["event"] == "refused"
    assert "nobody: no answer in 0.001 hours; the champion stays" in last["reasons"][0]


def test_a_run_that_takes_too_long_is_cancelled(digit_project: Project, tmp_path: Path) -> None:
    project = copy(digit_project, tmp_path / "project")
    params = project.folder / "params.yaml"
    params.write_text(params.read_text().replace("hours: 12.0", "hours: 0.002"))
    served = serve(project, (free_port(), free_port()))
    identity = served.start(settings__steps=100000)
    assert served.finished(identity)["state"]["type"] == "CANCELLED"
    stop(served)
