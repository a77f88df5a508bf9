"""How long a click takes, and how late a schedule is: retrains of the demo that compute nothing.

    python -m benchmarks.operation [--times 5]

Runs `crosstrain demo` in a new copy of the project and serves it. A click is what the button of
Prefect's UI does: a run asked for by the API. A promoted one begins with an empty registry, the
others with this very model as champion. The schedule is every minute. Writes operation.json and
operation.md to benchmarks/results/.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import yaml

from benchmarks.measure import write

COPIED = ("params.yaml", "data.dvc")
CROSSTRAIN = Path(sys.executable).with_name("crosstrain")
PROMOTED = 3
PATIENCE = 300.0  # seconds


@dataclass(frozen=True)
class Served:
    """A project that is served."""

    project: Path
    api: str

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """Ask Prefect's API; again when its database is busy."""
        response = httpx.request(method, f"{self.api}{path}", json=body or None, timeout=60)
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            time.sleep(1)
            return self.ask(method, path, **body)
        response.raise_for_status()
        return response.json()

    def click(self) -> dict[str, float]:
        """Ask for a retrain; seconds to the start of its work and to its end."""
        deployment = self.ask("GET", "/deployments/name/retrain/retrain")["id"]
        began = time.time()
        made = self.ask("POST", f"/deployments/{deployment}/create_flow_run", name="click")
        return _seconds(self.ended(made["id"]), began)

    def ended(self, identity: str) -> dict[str, Any]:
        """A run, once it has ended."""
        patience = time.monotonic() + PATIENCE
        while (run := self.ask("GET", f"/flow_runs/{identity}"))["end_time"] is None:
            if time.monotonic() > patience:
                raise SystemExit(f"a run is {run['state']['name']} after {PATIENCE:.0f} s")
            time.sleep(0.5)
        return dict(run)


def _seconds(run: dict[str, Any], since: float) -> dict[str, float]:
    """Seconds to the start of a run's work, and to its end, which must be a good one."""
    if run["state"]["type"] != "COMPLETED":
        raise SystemExit(f"a run ended as {run['state']['name']}: {run['state']['message']}")
    return {
        "started": _clock(run["start_time"]) - since,
        "finished": _clock(run["end_time"]) - since,
    }


def _clock(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


@contextmanager
def served(project: Path, cron: str | None) -> Iterator[Served]:
    """Serve a project with a schedule of retrains, and stop."""
    settings = yaml.safe_load((project / "params.yaml").read_text())
    settings.setdefault("serve", {})["retrain_cron"] = cron
    (project / "served.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    ports = [_free_port(), _free_port()]
    options = ("--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1]))
    with (project / "served.log").open("w") as log:
        process = subprocess.Popen(
            [CROSSTRAIN, "serve", "--params", "served.yaml", *options],
            cwd=project,
            env=_environment(project),
            stdout=log,
            stderr=log,
        )
    server = Served(project, f"http://127.0.0.1:{ports[0]}/api")
    try:
        while not _offers(server):
            if process.poll() is not None:
                raise SystemExit((project / "served.log").read_text())
            time.sleep(0.5)
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


def _offers(served: Served) -> bool:
    try:
        return bool(served.ask("GET", "/deployments/name/rollback/rollback"))
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _environment(project: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    return kept | {"PREFECT_HOME": str(project / ".prefect"), "DO_NOT_TRACK": "1"}


def clicks(project: Path, times: int) -> dict[str, list[dict[str, float]]]:
    """Clicks that promote into an empty registry, and clicks that find their own champion."""
    results: dict[str, list[dict[str, float]]] = {"promoted": [], "unchanged": []}
    for turn in range(PROMOTED):
        shutil.rmtree(project / "mlruns")
        with served(project, None) as server:
            results["promoted"].append(server.click())
            if turn == PROMOTED - 1:
                results["unchanged"] = [server.click() for _ in range(times)]
        ledger = (project / "mlruns" / "ledger.jsonl").read_text().splitlines()
        if [json.loads(line)["event"] for line in ledger] != ["promoted"]:
            raise SystemExit(f"the ledger tells of something else: {ledger}")
    return results


def schedule(project: Path, times: int) -> list[dict[str, float]]:
    """Runs of a schedule of every minute; how late each started, and when it was finished."""
    with served(project, "* * * * *") as server:
        patience = time.monotonic() + 60 * (times + 4)
        query = {"flow_runs": {"tags": {"all_": ["auto-scheduled"]}}}
        runs: list[dict[str, Any]] = []
        while len(runs) < times:
            if time.monotonic() > patience:
                raise SystemExit((project / "served.log").read_text())
            time.sleep(2)
            flow_runs = server.ask("POST", "/flow_runs/filter", **query)
            runs = [run for run in flow_runs if run["end_time"]]
    runs.sort(key=lambda run: run["start_time"])
    return [_seconds(run, _clock(run["expected_start_time"])) for run in runs]


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"{results['cores']} cores, load {results['load']} before. "
        "Seconds from the click, or from the "
        "minute that a run was due.",
        "",
        "| retrain | times | work starts: median (largest) | finished: median (largest) |",
        "|---|---|---|---|",
    ]
    rows = {
        "by a click, promoted as the first champion": results["promoted"],
        "by a click, the champion unchanged": results["unchanged"],
        "by schedule, the champion unchanged": results["scheduled"],
    }
    for name, runs in rows.items():
        cells = [_middle([run[key] for run in runs]) for key in ("started", "finished")]
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _middle(seconds: list[float]) -> str:
    return f"{median(seconds):.1f} ({max(seconds):.1f})"


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        for name in COPIED:
            shutil.copy(name, project / name)
        subprocess.run([CROSSTRAIN, "demo"], cwd=project, env=_environment(project), check=True)
        results = {"cores": os.cpu_count(), "load": load, **clicks(project, times)}
        results["scheduled"] = schedule(project, times)
    write("operation", results, table(results))


if __name__ == "__main__":
    main()
