"""Prefect's and MLflow's own servers, side by side, on loopback, and a runner for deployments."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tasks import paths
from transfer.errors import CrosstrainError, SettingsError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class _Child:
    """A process, and the file it writes its complaints to."""

    name: str
    port: int | None
    """None of one that listens to nobody."""
    process: "subprocess.Popen[bytes]"
    told: IO[bytes]

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            CrosstrainError: it has ended.
        """
        if (code := self.process.poll()) is not None:
            self.told.seek(0)
            told = self.told.read().decode(errors="replace").strip()[-2000:]
            raise CrosstrainError(f"{self.name} ended with exit code {code}\n{told}")


def serve(prefect_port: int, mlflow_port: int, params: Path | None = None) -> None:
    """Start both servers, print where they are once they answer, and stop all on Ctrl-C.

    A server that ``PREFECT_API_URL`` or an http ``MLFLOW_TRACKING_URI`` names is used, not started.

    Args:
        prefect_port: of Prefect's server.
        mlflow_port: of MLflow's server.
        params: a settings file, to offer every deployment with its settings; None offers none.

    Raises:
        SettingsError: a port is taken.
        CrosstrainError: a process ended by itself; the others are stopped.
    """
    api, store = os.environ.get("PREFECT_API_URL"), os.environ.get("MLFLOW_TRACKING_URI", "")
    wanted = {"prefect": None if api else prefect_port}
    wanted |= {"mlflow": None if store.startswith("http") else mlflow_port}
    for name, port in wanted.items():
        if port is not None and not _is_free(port):
            raise SettingsError(f"port {port} is taken; choose another with --{name}-port")
    paths.MLRUNS.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = {"prefect": _prefect, "mlflow": _mlflow}
    children = [start[name](port) for name, port in wanted.items() if port is not None]
    try:
        _watch(children, until_all_answer=True)
        for child in children:
            print(f"{child.name:8} http://{HOST}:{child.port}")
        if params is not None:
            children.append(_runner(params, api or f"http://{HOST}:{prefect_port}/api"))
        print("Ctrl-C stops them." if len(children) > 2 else "Ctrl-C stops both.", flush=True)
        _watch(children)
    finally:
        for child in reversed(children):
            child.process.terminate()
        for child in reversed(children):
            child.process.wait(timeout=60)


def _watch(children: Sequence[_Child], *, until_all_answer: bool = False) -> None:
    ports = [child.port for child in children if child.port is not None]
    while not until_all_answer or any(_is_free(port) for port in ports):
        for child in children:
            child.check()
        time.sleep(0.3)


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex((HOST, port)) != 0


def _prefect(port: int) -> _Child:
    environment = {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "true",  # so that its UI can make notifications
    }
    return _start("Prefect", port, ["prefect", "server", "start"], environment)


def _mlflow(port: int) -> _Child:
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{paths.MLRUNS}/mlflow.db")
    command = ["mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--default-artifact-root", "mlruns/artifacts"]
    return _start("MLflow", port, command, environment)


def _runner(params: Path, api: str) -> _Child:
    """Its output, the log of every run, goes to the terminal."""
    environment = {"PREFECT_API_URL": api, "PREFECT_RUNNER_POLL_FREQUENCY": "2"}
    words = [sys.executable, "-m", "flows.serve", str(params)]
    process = subprocess.Popen(words, env=os.environ | environment)
    return _Child("runner", None, process, BytesIO())


def _start(name: str, port: int, words: Sequence[str], environment: dict[str, str]) -> _Child:
    told = TemporaryFile()  # noqa: SIM115  open as long as its server runs
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=told,
    )
    return _Child(name, port, process, told)
