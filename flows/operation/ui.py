"""Prefect's and MLflow's own servers, side by side, on loopback, and a runner for deployments.

They ask for passwords if the environment holds some: PREFECT_SERVER_API_AUTH_STRING, and
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
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tasks.runtime import paths
from tasks.runtime.redaction import hide
from transfer.core.atomic_files import write_atomic
from transfer.core.errors import CrosstrainError, SettingsError

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
class _Child:
    """A process, and the file that holds its standard error."""

    name: str
    port: int | None
    """None for a process that listens on no port."""
    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            CrosstrainError: it has ended.
        """
        if (code := self.process.poll()) is not None:
            self.errors.seek(0)
            message = self.errors.read().decode(errors="replace").strip()[-2000:]
            raise CrosstrainError(f"{self.name} ended with exit code {code}\n{hide(message)}")


def serve(prefect_port: int, mlflow_port: int, params: Path | None = None) -> None:
    """Start both servers, print their addresses once they answer, and stop all on Ctrl-C.

    A server that ``PREFECT_API_URL`` or an http ``MLFLOW_TRACKING_URI`` names is used, not started.

    Args:
        prefect_port: of Prefect's server.
        mlflow_port: of MLflow's server.
        params: a settings file, to offer every deployment with its settings; None offers none.

    Raises:
        SettingsError: a port is taken.
        CrosstrainError: a process ended by itself; the others are stopped.
    """
    api, store = _prefect_elsewhere(prefect_port), _mlflow_elsewhere()
    ports = {} if api else {"prefect": prefect_port}
    ports |= {} if store else {"mlflow": mlflow_port}
    for name, port in ports.items():
        if not _is_free(port):
            raise SettingsError(f"port {port} is taken; choose another with --{name}-port")
    paths.MLRUNS.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = {"prefect": _prefect, "mlflow": _mlflow}
    children: list[_Child] = []
    try:
        for name, port in ports.items():
            children.append(start[name](port))
        _watch(children, until_all_answer=True)
        _print_addresses(children, api, store)
        if params is not None:
            children.append(_runner(params, api or f"http://{HOST}:{prefect_port}/api"))
        print("Ctrl-C stops all of it.", flush=True)
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
    if protection := _password_protection():
        command += ["--app-name", "basic-auth"]
    return _start("MLflow", port, command, environment | protection)


def _password_protection() -> dict[str, str]:
    """Variables with which MLflow asks for passwords; empty when it shall not ask.

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


def _prefect_elsewhere(port: int) -> str | None:
    """Address of Prefect's API, when the environment names a server that is not started here."""
    named = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    own = {f"http://{host}:{port}/api" for host in (HOST, "localhost")}
    return named if named and named not in own else None


def _mlflow_elsewhere() -> str | None:
    """Address of MLflow's server, when the environment names a server that runs elsewhere."""
    store = os.environ.get("MLFLOW_TRACKING_URI", "")
    return hide(store) if store.startswith(("http://", "https://")) else None


def _print_addresses(children: Sequence[_Child], api: str | None, store: str | None) -> None:
    for child in children:
        print(f"{child.name:8} http://{HOST}:{child.port}")
    for name, address, variable in (
        ("Prefect", api, "PREFECT_API_URL"),
        ("MLflow", store, "MLFLOW_TRACKING_URI"),
    ):
        if address:
            print(f"{name:8} {address} ({variable})")


def _runner(params: Path, api: str) -> _Child:
    """The runner's output, the log of every run, goes to the terminal."""
    environment = {"PREFECT_API_URL": api, "PREFECT_RUNNER_POLL_FREQUENCY": "2"}
    if password := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        environment["PREFECT_API_AUTH_STRING"] = os.environ.get("PREFECT_API_AUTH_STRING", password)
    command = [sys.executable, "-P", "-m", "flows.operation.serve", str(params)]
    process = subprocess.Popen(command, env=os.environ | environment)
    return _Child("runner", None, process, BytesIO())


def _start(name: str, port: int, arguments: Sequence[str], environment: dict[str, str]) -> _Child:
    errors = TemporaryFile()  # noqa: SIM115  open as long as its server runs
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", *arguments],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )
    return _Child(name, port, process, errors)
