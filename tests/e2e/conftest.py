"""Small projects with real data, and one Prefect server for those that need none of their own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from tasks.runtime import environment
from tasks.versioning import demo_data
from tests import prefect_home
from tests.e2e import project as projects
from tests.e2e.project import Project, Stopped, wait
from tests.e2e.served import Served, serve, stop
from tests.ports import free_port

LARGE, SMALL = slice(0, 900), slice(900, 1300)


@pytest.fixture(scope="session")
def digits() -> list[tuple[str, bytes]]:
    """Path and content of each image file of the demo's digits."""
    return list(demo_data.image_files("digits"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Start a Prefect server for all tests; yields a function that waits for its address."""
    port = free_port()
    shared = projects.make(tmp_path_factory.mktemp("server") / "project", None, {})
    prefect_home.write(shared.folder / ".prefect")
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"],
        cwd=shared.folder,
        env=environment.SILENCE
        | environment.SPEED
        | shared.environment
        | {"PREFECT_SERVER_API_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/api"

    def is_up() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.TransportError:
            return False

    def address() -> str:
        wait(is_up, seconds=120, every=0.2)
        return url

    yield address
    process.terminate()
    process.wait(timeout=120)
    assert shared.attempts() == ""


@pytest.fixture(scope="session")
def api(server: Callable[[], str]) -> str:
    """Address of a Prefect server that runs as long as the tests."""
    return server()


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
    prefect_home.write(made.folder / ".prefect")
    write_digits(made.folder / "data/large", LARGE)
    write_digits(made.folder / "data/small", SMALL)
    (made.folder / ".gitignore").write_text("data\nbuild\nmlruns\nreports\n.prefect\n")
    person = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    for words in (["init", "-q"], ["add", "."], [*person, "commit", "-qm", "project"]):
        subprocess.run(["git", *words], cwd=made.folder, env=made.environment, check=True)
    return made


@dataclass(frozen=True)
class Crash:
    """A run that was interrupted while arms trained, run again and killed, and then resumed."""

    project: Project
    interrupted: Stopped
    kept: list[Path]
    """Checkpoints that exist after the interrupt."""
    killed: Stopped
    steps: list[int]
    """Finished optimiser steps in each checkpoint that exists after the kill."""


@pytest.fixture(scope="session", autouse=True)
def ahead(
    request: pytest.FixtureRequest,
    digit_project: Project,
    server: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Future[Any]]]:
    """The longest scenarios, started with the first test if any selected test needs them.

    A worker of pytest-xdist does not know which tests it will get: there, each scenario starts
    when a test requests it.
    """
    folder = tmp_path_factory.mktemp("ahead")
    scenarios: dict[str, Callable[[], Any]] = {
        "first_run": lambda: _run_first(digit_project, folder / "first"),
        "crash": lambda: _crash(digit_project, folder / "crash", server),
    }
    futures: dict[str, Future[Any]] = {}
    with ThreadPoolExecutor(1) as pool:

        def begin(name: str) -> Future[Any]:
            if name not in futures:
                futures[name] = pool.submit(scenarios[name])
            return futures[name]

        if "PYTEST_XDIST_WORKER" not in os.environ:
            needed = {name for item in request.session.items for name in item.fixturenames}
            for name in scenarios:
                if name in needed:
                    begin(name)
        yield begin


def _run_first(
    digit_project: Project, folder: Path
) -> tuple[Project, "subprocess.CompletedProcess[str]"]:
    made = copy(digit_project, folder)
    return made, made.run("retrain")


def _crash(digit_project: Project, folder: Path, server: Callable[[], str]) -> Crash:
    made = copy(digit_project, folder)
    long = ("--set", "adapt.training.steps=20000", "--set", "run.workers=2")

    def both_train() -> bool:
        return len(made.checkpoints("adapt")) == 2

    interrupted = made.stop(signal.SIGINT, both_train, "retrain", *long)
    wait(lambda: not made.processes(), seconds=30, every=0.1)
    kept = made.checkpoints("adapt")
    for file in kept:
        file.unlink()
    made = made.at(folder, server())
    killed = made.stop(signal.SIGKILL, lambda: made.checkpoints("adapt"), "retrain")
    states = [torch.load(file, weights_only=True) for file in made.checkpoints("adapt")]
    assert len(list(folder.glob("build/adapt/*/stored.json"))) < 2
    made.run("retrain")
    return Crash(made, interrupted, kept, killed, [state["step"] for state in states])


@pytest.fixture(scope="session")
def first_run(
    ahead: Callable[[str], Future[Any]],
) -> tuple[Project, "subprocess.CompletedProcess[str]"]:
    """The first run on the digits, as a new user has it: the run starts its own Prefect server."""
    done: tuple[Project, subprocess.CompletedProcess[str]] = ahead("first_run").result()
    return done


@pytest.fixture(scope="session")
def crash(ahead: Callable[[str], Future[Any]]) -> Crash:
    """The outcome of a run that was interrupted, killed and resumed."""
    done: Crash = ahead("crash").result()
    return done


@pytest.fixture(scope="session")
def trained(first_run: tuple[Project, "subprocess.CompletedProcess[str]"]) -> Project:
    """The digits after their first run. Copy it to change it."""
    return first_run[0]


def copy(project: Project, folder: Path, api: str | None = None) -> Project:
    """Copy a project with all that is in it, for another Prefect server or one of its own."""
    shutil.copytree(project.folder, folder)
    return project.at(folder, api)


@pytest.fixture(scope="module")
def served(digit_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The digits, served as long as a module's tests."""
    project = copy(digit_project, tmp_path_factory.mktemp("served") / "project")
    made = serve(project, (free_port(), free_port()))
    yield made
    stop(made)
