"""Small projects with real data, and one Prefect server for those that need none of their own."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks import demo_data
from tests.e2e import project as projects
from tests.e2e.project import Project, wait

LARGE, SMALL = slice(0, 900), slice(900, 1300)


@pytest.fixture(scope="session")
def digits() -> list[tuple[str, bytes]]:
    """Path and content of each picture of the demo's digits."""
    return list(demo_data.pictures("digits"))


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prefect server that runs as long as the tests."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    shared = projects.make(folder / "project", None, {})
    from tasks import environment

    defaults = environment.SILENCE | environment.SPEED
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"],
        cwd=shared.folder,
        env=shared.environment | defaults | {"PREFECT_SERVER_API_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/api"

    def answers() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.TransportError:
            return False

    wait(answers, seconds=120, every=0.2)
    yield url
    process.terminate()
    process.wait(timeout=30)
    assert shared.attempts() == ""


@pytest.fixture(scope="session")
def write_digits(digits: list[tuple[str, bytes]]) -> Callable[[Path, slice], None]:
    """Write some of the digits as a folder with one folder a class."""

    def write(folder: Path, rows: slice) -> None:
        for name, content in digits[rows]:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return write


@pytest.fixture(scope="session")
def make_project(api: str) -> Callable[..., Project]:
    """Make a project without data that uses the tests' Prefect server."""

    def make(folder: Path, changes: dict[str, Any] | None = None) -> Project:
        return projects.make(folder, api, changes or {})

    return make


@pytest.fixture(scope="session")
def digit_project(
    tmp_path_factory: pytest.TempPathFactory, write_digits: Callable[[Path, slice], None]
) -> Project:
    """A project with two folders of digits, in Git; nothing has run in it. Copy it to use it."""
    made = projects.make(tmp_path_factory.mktemp("digits") / "project", None, {})
    write_digits(made.folder / "data/large", LARGE)
    write_digits(made.folder / "data/small", SMALL)
    (made.folder / ".gitignore").write_text("data\nbuild\nmlruns\nreports\n.prefect\n")
    person = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    for words in (["init", "-q"], ["add", "."], [*person, "commit", "-qm", "project"]):
        subprocess.run(["git", *words], cwd=made.folder, env=made.environment, check=True)
    return made


@pytest.fixture(scope="session")
def first_run(
    digit_project: Project, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, "subprocess.CompletedProcess[str]"]:
    """The digits' first run, as a new user has it: with a Prefect server of the run's own."""
    made = copy(digit_project, tmp_path_factory.mktemp("trained") / "project")
    return made, made.run("retrain")


@pytest.fixture(scope="session")
def trained(first_run: tuple[Project, "subprocess.CompletedProcess[str]"]) -> Project:
    """The digits after their first run. Copy it to change it."""
    return first_run[0]


def copy(project: Project, folder: Path, api: str | None = None) -> Project:
    """Copy a project with all that is in it, for another Prefect server or one of its own."""
    shutil.copytree(project.folder, folder)
    return project.at(folder, api)
