"""Crosstrain in operation: runs that are asked for, queued, killed, told by events, approved."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import copy
from tests.e2e.project import Project, wait

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@dataclass
class Served:
    """A project that is served, and its API."""

    project: Project
    ports: tuple[int, int]
    process: "subprocess.Popen[bytes]"

    def ask(self, method: str, path: str, **body: Any) -> Any:
        told = httpx.request(method, f"{self.api}{path}", json=body or None, timeout=60)
        told.raise_for_status()
        return told.json() if told.content else None

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}/api"

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/deployments/name/{name}/{name}")
        return found

    def start(self, name: str = "retrain", **changes: Any) -> str:
        """Ask for a run, with settings changed as ``section__field``."""
        told = self.deployment(name)
        for key, value in changes.items():
            *sections, field = key.split("__")
            tree = told["parameters"]
            for section in sections:
                tree = tree[section]
            tree[field] = value
        path = f"/deployments/{told['id']}/create_flow_run"
        identity: str = self.ask("POST", path, parameters=told["parameters"])["id"]
        return identity

    def run(self, identity: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/flow_runs/{identity}")
        return found

    def state(self, identity: str) -> str:
        name: str = self.run(identity)["state"]["name"]
        return name

    def history(self, identity: str) -> list[str]:
        states = self.ask("GET", f"/flow_run_states/?flow_run_id={identity}")
        return [state["type"] for state in states]

    def finished(self, identity: str) -> dict[str, Any]:
        ends = ("COMPLETED", "FAILED", "CANCELLED")
        wait(lambda: self.run(identity)["state"]["type"] in ends, seconds=240, every=0.3)
        return self.run(identity)

    def pid(self, identity: str) -> int:
        """Process of a run that trains."""

        def works() -> bool:
            return self.state(identity) == "Running" and bool(self.project.checkpoints("adapt"))

        wait(works, seconds=120, every=0.1)
        (tag,) = [tag for tag in self.run(identity)["tags"] if tag.startswith("process ")]
        return int(tag.split(" ")[1])

    def ledger(self) -> list[dict[str, Any]]:
        file = self.project.folder / "mlruns/ledger.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]


def serve(project: Project, ports: tuple[int, int]) -> Served:
    options = ["--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])]
    served = Served(project, ports, project.start("serve", *options))

    def offers() -> bool:
        assert served.process.poll() is None, project.log()
        try:
            return bool(served.deployment("rollback"))
        except httpx.HTTPError:
            return False

    wait(offers, seconds=120, every=0.3)
    return served


@pytest.fixture(scope="module")
def served(digit_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    project = copy(digit_project, tmp_path_factory.mktemp("served") / "project")
    made = serve(project, (free_port(), free_port()))
    yield made
    made.process.send_signal(signal.SIGINT)
    made.process.wait(timeout=120)
    wait(lambda: not project.processes(), seconds=30, every=0.1)
    assert "Traceback" not in project.log()


def test_every_flow_is_offered_with_a_form_of_its_settings(served: Served) -> None:
    told = served.deployment("retrain")
    form = told["parameter_openapi_schema"]
    assert form["definitions"]["AugmentPolicy"]["properties"]["rotate"]["description"]
    assert form["definitions"]["RunSettings"]["properties"]["device"]["enum"]
    assert told["parameters"]["settings"]["target"]["path"] == "data/small"
    assert [one["schedule"]["cron"] for one in told["schedules"]] == ["0 3 * * *"]
    automations = served.ask("GET", f"/automations/related-to/prefect.deployment.{told['id']}")
    assert sorted(one["name"] for one in automations) == [
        "retrain on data-changed",
        "retrain on retrain-wanted",
    ]
    assert "retrain  at 0 3 * * * (UTC), on new data, on drift, on request" in served.project.log()


def test_a_value_out_of_range_is_refused_before_a_run_is_made(served: Served) -> None:
    for field, value in (("run__device", "toaster"), ("image__size", 3)):
        with pytest.raises(httpx.HTTPStatusError, match="409"):
            served.start(**{f"settings__{field}": value})
    runs = served.ask("POST", "/flow_runs/filter")
    assert [run["name"] for run in runs if "auto-scheduled" not in run["tags"]] == []


def test_two_retrains_queue_and_the_second_finds_everything_stored(served: Served) -> None:
    first, second = served.start(), served.start()
    seen = set()

    def both_end() -> bool:
        states = [served.run(one)["state"]["type"] for one in (first, second)]
        seen.add(tuple(states))
        return states == ["COMPLETED", "COMPLETED"]

    wait(both_end, seconds=240, every=0.2)
    assert ("RUNNING", "RUNNING") not in seen
    assert [event["event"] for event in served.ledger()] == ["promoted"]
    assert "deployment retrain on request" in served.ledger()[0]["who"]
    artifacts = served.ask("POST", "/artifacts/filter", artifacts={"key": {"any_": ["verdict"]}})
    assert "small" in artifacts[0]["data"]


def test_a_killed_run_is_marked_and_goes_on(served: Served) -> None:
    identity = served.start(settings__adapt__budget__steps=400)
    os.kill(served.pid(identity), signal.SIGKILL)
    found = served.finished(identity)
    assert found["state"]["type"] == "COMPLETED"
    assert found["run_count"] == 2
    assert "CRASHED" in served.history(identity)


def test_new_data_starts_a_retrain(served: Served) -> None:
    code = "from flows.events import announce; announce('data-changed', 'small', {'added': 3})"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=served.project.folder,
        env=served.project.environment | {"PREFECT_API_URL": served.api},
        check=True,
    )
    query = {"flow_runs": {"tags": {"all_": ["crosstrain"]}}, "sort": "START_TIME_DESC"}

    def by_automation() -> list[dict[str, Any]]:
        runs = served.ask("POST", "/flow_runs/filter", **query)
        return [one for one in runs if (one["created_by"] or {}).get("type") == "AUTOMATION"]

    wait(by_automation, seconds=60, every=0.3)
    assert served.finished(by_automation()[0]["id"])["state"]["type"] == "COMPLETED"


def test_everything_killed_goes_on_when_it_is_served_again(served: Served) -> None:
    identity = served.start(settings__adapt__budget__steps=600)
    served.pid(identity)
    os.killpg(served.process.pid, signal.SIGKILL)
    for line in served.project.processes():
        subprocess.run(["pkill", "-9", "-f", "--", line[-40:]], check=False)
    served.process.wait()
    wait(lambda: not served.project.processes(), seconds=30, every=0.1)
    served.process = serve(served.project, served.ports).process
    found = served.finished(identity)
    assert (found["state"]["type"], found["run_count"]) == ("COMPLETED", 2)


@pytest.mark.parametrize(("agrees", "event"), [(True, "promoted"), (False, "refused")])
def test_a_person_decides(served: Served, agrees: bool, event: str) -> None:
    steps = 25 if agrees else 26
    identity = served.start(
        settings__promote__approval=True,
        settings__promote__rules=[{"rule": "servable"}],
        settings__adapt__budget__steps=steps,
    )
    wait(lambda: served.run(identity)["state"]["type"] == "PAUSED", seconds=120, every=0.3)
    said = {"approve": agrees, "name": "Ada", "reason": "I looked"}
    served.ask("POST", f"/flow_runs/{identity}/resume", run_input=said)
    assert served.finished(identity)["state"]["type"] == "COMPLETED"
    last = served.ledger()[-1]
    assert last["event"] == event
    assert last["reasons"][0] == f"{'agreed' if agrees else 'not agreed'}, Ada: I looked"


def test_silence_is_no_consent(served: Served) -> None:
    identity = served.start(
        settings__promote__approval=True,
        settings__promote__approval_hours=0.001,
        settings__promote__rules=[{"rule": "servable"}],
        settings__adapt__budget__steps=27,
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
    identity = served.start(settings__adapt__budget__steps=100000)
    assert served.finished(identity)["state"]["type"] == "CANCELLED"
    served.process.send_signal(signal.SIGTERM)
    served.process.wait(timeout=120)
    wait(lambda: not project.processes(), seconds=30, every=0.1)
