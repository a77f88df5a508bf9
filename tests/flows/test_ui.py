"""The two servers of `crosstrain ui`."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests import prefect_home

COMMAND = [Path(sys.executable).with_name("crosstrain"), "ui"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def ui(tmp_path: Path, ports: tuple[int, int]) -> Iterator["subprocess.Popen[str]"]:
    """The command in a new project, in a process group of its own, as in a terminal."""
    (tmp_path / "params.yaml").write_text("{}")
    prefect_home.write(tmp_path / ".prefect")
    options = ["--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])]
    with subprocess.Popen(
        [*COMMAND, *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        if process.poll() is None:
            process.terminate()  # stops both servers


def test_both_servers_answer_on_loopback_until_ctrl_c(
    ui: "subprocess.Popen[str]", ports: tuple[int, int]
) -> None:
    assert ui.stdout is not None
    told = [ui.stdout.readline().rstrip() for _ in range(3)]
    assert told == [
        f"Prefect  http://127.0.0.1:{ports[0]}",
        f"MLflow   http://127.0.0.1:{ports[1]}",
        "Ctrl-C stops both.",
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
