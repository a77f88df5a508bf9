"""Prefect's and MLflow's own servers, side by side, on loopback.

They ask for passwords where the environment holds some: PREFECT_SERVER_API_AUTH_STRING, and
MLFLOW_AUTH_ADMIN_PASSWORD or MLFLOW_AUTH_CONFIG_PATH.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from tempfile import TemporaryFile
from typing import IO

from tasks import paths
from tasks.redact import hide
from transfer.errors import CrosstrainError, SettingsError
from transfer.files import write_atomic

HOST = "127.0.0.1"
SECRET_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"
USERS = paths.MLRUNS / "basic_auth.ini"
USERS_TEXT = f"""[mlflow]
default_permission = READ
database_uri = sqlite:///{paths.MLRUNS}/basic_auth.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


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
            raise CrosstrainError(f"{self.name}'s server ended with exit code {code}\n{hide(told)}")


def serve(prefect_port: int, mlflow_port: int) -> None:
    """Start both servers, print where they are once they answer, and stop both on Ctrl-C.

    Where MLFLOW_TRACKING_URI names a server of MLflow, no other is started.

    Raises:
        SettingsError: a port is taken.
        CrosstrainError: a server ended by itself; the other one is stopped.
    """
    ports = {"prefect": prefect_port} | ({} if _named() else {"mlflow": mlflow_port})
    for name, port in ports.items():
        if not _is_free(port):
            raise SettingsError(f"port {port} is taken; choose another with --{name}-port")
    paths.MLRUNS.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    servers = [_prefect(prefect_port)]
    try:
        if not _named():
            servers.append(_mlflow(mlflow_port))
        _watch(servers, until_all_answer=True)
        for server in servers:
            print(f"{server.name:8} http://{HOST}:{server.port}")
        if named := _named():
            print(f"MLflow   {named} (MLFLOW_TRACKING_URI)")
        print("Ctrl-C stops both." if len(servers) == 2 else "Ctrl-C stops it.", flush=True)
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
    """The server of the project's store; its address, which may hold a password, is no argument."""
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": os.environ.get(
            "MLFLOW_TRACKING_URI", f"sqlite:///{paths.MLRUNS}/mlflow.db"
        ),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": os.environ.get(
            "MLFLOW_DEFAULT_ARTIFACT_ROOT", f"{paths.MLRUNS}/artifacts"
        ),
    }
    command = ["mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    if guarded := _guarded():
        command += ["--app-name", "basic-auth"]
    return _start("MLflow", port, command, environment | guarded)


def _guarded() -> dict[str, str]:
    """What MLflow needs to ask for passwords; empty when it is not to ask.

    Raises:
        SettingsError: the package that it needs is not installed.
    """
    if not {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_AUTH_CONFIG_PATH"} & set(os.environ):
        return {}
    if find_spec("flask_wtf") is None:
        raise SettingsError(
            "MLflow needs Flask-WTF to ask for passwords; type pip install 'crosstrain[auth]'"
        )
    write_atomic(USERS, USERS_TEXT.encode())
    given = {"MLFLOW_AUTH_CONFIG_PATH": str(USERS), SECRET_KEY: secrets.token_hex()}
    return {name: os.environ.get(name) or value for name, value in given.items()}


def _named() -> str | None:
    """Address of MLflow's server, when the environment names one that runs elsewhere."""
    store = os.environ.get("MLFLOW_TRACKING_URI", "")
    return hide(store) if store.startswith(("http://", "https://")) else None


def _start(name: str, port: int, words: Sequence[str], environment: dict[str, str]) -> _Server:
    told = TemporaryFile()  # noqa: SIM115  open as long as its server runs
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=told,
    )
    return _Server(name, port, process, told)
