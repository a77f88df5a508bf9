"""A project that `crosstrain serve` serves, driven by Prefect's API."""

import json
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import httpx

from tests.e2e.project import Project, wait


@dataclass
class Served:
    """A project that is served, and its API."""

    project: Project
    ports: tuple[int, int]
    process: "subprocess.Popen[bytes]"

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """Send a request to the API; like Prefect's client, retry when its database is busy."""
        for _ in range(10):
            response = httpx.request(method, f"{self.api}{path}", json=body or None, timeout=60)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(1)
        response.raise_for_status()
        return response.json() if response.content else None

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}/api"

    def deployment(self, name: str) -> dict[str, Any]:
        deployment: dict[str, Any] = self.ask("GET", f"/deployments/name/{name}/{name}")
        return deployment

    def start(self, name: str = "retrain", **changes: Any) -> str:
        """Request a run, with settings changed as ``section__field``."""
        deployment = self.deployment(name)
        for key, value in changes.items():
            *sections, field = key.split("__")
            tree = deployment["parameters"]
            for section in sections:
                tree = tree[section]
            tree[field] = value
        path = f"/deployments/{deployment['id']}/create_flow_run"
        identity: str = self.ask("POST", path, parameters=deployment["parameters"])["id"]
        return identity

    def run(self, identity: str) -> dict[str, Any]:
        flow_run: dict[str, Any] = self.ask("GET", f"/flow_runs/{identity}")
        return flow_run

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
        """Process id of a run that is training."""

        def is_training() -> bool:
            return self.state(identity) == "Running" and bool(self.project.checkpoints("adapt"))

        wait(is_training, seconds=120, every=0.1)
        (tag,) = [tag for tag in self.run(identity)["tags"] if tag.startswith("process ")]
        return int(tag.split(" ")[1])

    def ledger(self) -> list[dict[str, Any]]:
        file = self.project.folder / "mlruns/ledger.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]


def serve(project: Project, ports: tuple[int, int]) -> Served:
    options = ["--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])]
    served = Served(project, ports, project.start("serve", *options))

    def is_ready() -> bool:
        assert served.process.poll() is None, project.log()
        try:
            return bool(served.deployment("rollback"))
        except httpx.HTTPError:
            return False

    wait(is_ready, seconds=120, every=0.3)
    return served


def stop(served: Served) -> None:
    """Press Ctrl-C, and make sure that nothing remains."""
    served.process.send_signal(signal.SIGINT)
    served.process.wait(timeout=120)
    wait(lambda: not served.project.processes(), seconds=30, every=0.1)
    assert "Traceback" not in served.project.log()
