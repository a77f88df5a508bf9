"""Prefect's and MLflow's own servers, side by side, on loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from tasks import paths
from transfer.errors import CrosstrainError, SettingsError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class _Server:
    """A server of its own process, and the file it writes its complaints to."""

    name: str
    port: int
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
            raise CrosstrainError(f"{self.name}'s server ended with exit code {code}\n{told}")


def serve(prefect_port: int, mlflow_port: int) -> None:
    """Start both servers, print where they are once they answer, and stop both on Ctrl-C.

    Raises:
        SettingsError: a port is taken.
        CrosstrainError: a server ended by itself; the other one is stopped.
    """
    for name, port in (("prefect", prefect_port), ("mlflow", mlflow_port)):
        if not _is_free(port):
            raise SettingsError(f"port {port} is taken; choose another with --{name}-port")
    paths.MLRUNS.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    servers = [_prefect(prefect_port), _mlflow(mlflow_port)]
    try:
        _watch(servers, until_all_answer=True)
        for server in servers:
            print(f"{server.name:8} http://{HOST}:{server.port}")
        print("Ctrl-C stops both.", flush=True)
        _watch(servers)
    finally:
        for server in servers:
            server.process.terminate()
        for server in servers:
            server.process.wait(timeout=20)


def _watch(servers: Sequence[_Server], *, until_all_answer: bool = False) -> None:
    while not until_all_answer or any(_is_free(server.port) for server in servers):
        for server in servers:
            server.check()
        time.sleep(0.3)


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex((HOST, port)) != 0


def _prefect(port: int) -> _Server:
    environment = {"PREFECT_SERVER_API_HOST": HOST, "PREFECT_SERVER_API_PORT": str(port)}
    return _start("Prefect", port, ["prefect", "server", "start"], environment)


def _mlflow(port: int) -> _Server:
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{paths.MLRUNS}/mlflow.db")
    command = ["mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--default-artifact-root", "mlruns/artifacts"]
    return _start("MLflow", port, command, environment)


def _start(name: str, port: int, words: Sequence[str], environment: dict[str, str]) -> _Server:
    told = TemporaryFile()  # noqa: SIM115  open as long as its server runs
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=told,
    )
    return _Server(name, port, process, told)
