"""Prefect's and MLflow's own servers, side by side, on loopback."""

import os
import subprocess
import sys
import time

from tasks import paths

HOST = "127.0.0.1"


def serve(prefect_port: int, mlflow_port: int) -> None:
    """Start both servers, print where they are, and stop both when one ends or on Ctrl-C."""
    paths.MLRUNS.mkdir(exist_ok=True)
    servers = [_prefect(prefect_port), _mlflow(mlflow_port)]
    print(f"Prefect  http://{HOST}:{prefect_port}\nMLflow   http://{HOST}:{mlflow_port}")
    print("Ctrl-C stops both.", flush=True)
    try:
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(timeout=20)


def _prefect(port: int) -> "subprocess.Popen[bytes]":
    environment = os.environ | {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
    }
    return _start(["-m", "prefect", "server", "start"], environment)


def _mlflow(port: int) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{paths.MLRUNS}/mlflow.db")
    command = ["-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--default-artifact-root", "mlruns/artifacts"]
    return _start(command, environment)


def _start(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
