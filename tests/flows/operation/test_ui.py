"""The two servers of `crosstrain ui`."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.runtime import local_prefect
from tasks.registry import versions
from tests import prefect_home
from tests.ports import free_port
from transfer.core.errors import SettingsError

SECRET = "a-long-and-secret-word"
COMMAND = [Path(sys.executable).with_name("crosstrain"), "ui"]


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@contextmanager
def started(
    folder: Path, ports: tuple[int, int], environment: dict[str, str]
) -> Iterator["subprocess.Popen[str]"]:
    """The command in a new project, in a process group of its own, as in a terminal."""
    (folder / "params.yaml").write_text("{}")
    prefect_home.write(folder / ".prefect")
    options = ["--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])]
    with subprocess.Popen(
        [*COMMAND, *options],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        if process.poll() is None:
            process.terminate()  # stops both servers


@pytest.fixture
def ui(tmp_path: Path, ports: tuple[int, int]) -> Iterator["subprocess.Popen[str]"]:
    """The command without passwords."""
    with started(tmp_path, ports, {}) as process:
        yield process


@pytest.fixture
def guarded(tmp_path: Path, ports: tuple[int, int]) -> Iterator["subprocess.Popen[str]"]:
    """The command with a password for each server."""
    environment = {
        "PREFECT_SERVER_API_AUTH_STRING": f"keeper:{SECRET}",
        "MLFLOW_AUTH_ADMIN_PASSWORD": SECRET,
    }
    with started(tmp_path, ports, environment) as process:
        yield process


def test_both_servers_answer_on_loopback_until_ctrl_c(
    ui: "subprocess.Popen[str]", ports: tuple[int, int]
) -> None:
    assert ui.stdout is not None
    lines = [ui.stdout.readline().rstrip() for _ in range(3)]
    assert lines == [
        f"Prefect  http://127.0.0.1:{ports[0]}",
        f"MLflow   http://127.0.0.1:{ports[1]}",
        "Ctrl-C stops all of it.",
    ]
    prefect, mlflow = (f"http://127.0.0.1:{port}" for port in ports)
    assert httpx.get(f"{prefect}/api/health").json() is True
    assert "<html" in httpx.get(prefect, follow_redirects=True).text
    settings = httpx.get(f"{prefect}/ui-settings").json()
    assert settings["api_url"] == f"{prefect}/api"
    assert httpx.get(f"{mlflow}/health").text == "OK"
    assert "<html" in httpx.get(mlflow).text
    children = psutil.Process(ui.pid).children(recursive=True)
    listening = {
        connection.laddr
        for child in children
        for connection in child.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {address.port for address in listening} >= set(ports)
    assert {address.ip for address in listening} == {"127.0.0.1"}
    ui.send_signal(signal.SIGINT)
    assert ui.wait(timeout=120) == 130
    assert "Traceback" not in ui.stdout.read()
    end = time.monotonic() + 10
    while any(child.is_running() for child in children):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "--prefect-port", str(free_port()), "--mlflow-port", port],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == f"crosstrain: port {port} is taken; choose another with --mlflow-port\n"
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.slow
def test_with_passwords_both_servers_ask_for_them_and_show_them_nowhere(
    guarded: "subprocess.Popen[str]",
    ports: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert guarded.stdout is not None
    lines = "".join(guarded.stdout.readline() for _ in range(3))
    assert lines.endswith("Ctrl-C stops all of it.\n")
    prefect, mlflow = (f"http://127.0.0.1:{port}" for port in ports)
    models = f"{mlflow}/api/2.0/mlflow/registered-models/search"
    for url, user in ((f"{prefect}/api/admin/version", "keeper"), (models, "admin")):
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, auth=(user, "wrong-but-long-word")).status_code == 401
        assert httpx.get(url, auth=(user, SECRET)).status_code == 200
    family = [psutil.Process(guarded.pid), *psutil.Process(guarded.pid).children(recursive=True)]
    assert SECRET not in "".join(word for process in family for word in process.cmdline())
    _clients_need_them(prefect, mlflow, tmp_path, monkeypatch)
    guarded.send_signal(signal.SIGINT)
    assert guarded.wait(timeout=120) == 130
    assert SECRET not in lines + guarded.stdout.read()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "mlruns/basic_auth.db" in files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def _clients_need_them(
    prefect: str, mlflow: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    api = {PREFECT_API_URL: f"{prefect}/api"}
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-but-long-word")
    with pytest.raises(SettingsError, match="set MLFLOW_TRACKING_USERNAME and"):
        versions.champion("plants")
    with (
        temporary_settings({**api, PREFECT_API_AUTH_STRING: "keeper:wrong-but-long-word"}),
        pytest.raises(SettingsError, match="set PREFECT_API_AUTH_STRING=user:password"),
    ):
        local_prefect.address()
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    assert versions.champion("plants") is None
    with temporary_settings({**api, PREFECT_API_AUTH_STRING: f"keeper:{SECRET}"}):
        assert local_prefect.address() == f"{prefect}/api"


@pytest.mark.slow
def test_a_server_of_mlflow_that_runs_elsewhere_is_told_not_started(
    tmp_path: Path, ports: tuple[int, int]
) -> None:
    elsewhere = {"MLFLOW_TRACKING_URI": f"https://keeper:{SECRET}@mlflow.example.org"}
    with started(tmp_path, ports, elsewhere) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().rstrip() for _ in range(3)] == [
            f"Prefect  http://127.0.0.1:{ports[0]}",
            "MLflow   https://keeper:***@mlflow.example.org (MLFLOW_TRACKING_URI)",
            "Ctrl-C stops all of it.",
        ]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
