"""The Prefect server of a run, and a configured server that does not answer."""

import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.runtime import local_prefect
from tests import prefect_home
from transfer.core.errors import CrosstrainError

START = """
from flows.runtime import local_prefect
print(local_prefect.address(), flush=True)
input()
"""


@pytest.mark.slow
def test_own_server_ends_with_its_process_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefect_home.write(tmp_path / ".prefect")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / ".prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with subprocess.Popen(
        [sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{url}/health").json() is True
        (child,) = psutil.Process(process.pid).children()
        process.kill()
    end = time.monotonic() + 15
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.1)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/health")


@pytest.mark.slow
def test_servers_that_start_together_in_a_new_project_do_not_damage_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / ".prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    command = [sys.executable, "-c", START]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    urls = [process.communicate("\n")[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert all(url.startswith("http://127.0.0.1:") for url in urls)


def test_a_configured_server_that_does_not_answer_is_reported() -> None:
    url = "http://127.0.0.1:9/api"
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(CrosstrainError, match=f"no Prefect server answers at PREFECT_API_URL={url}"),
    ):
        local_prefect.address()
