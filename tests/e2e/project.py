"""A small project in its own folder, used as a user does: by the command line."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tasks.versioning import demo_data
from transfer.evaluation.report_schema import Result
from transfer.settings.project import load

ROOT = Path(__file__).parents[2]
GUARD = Path(__file__).with_name("guard")
CROSSTRAIN = Path(sys.executable).with_name("crosstrain")
LOG = re.compile(r"\d\d:\d\d:\d\d\.\d{3} \| INFO    \| crosstrain - .+")
TINY = {
    "source.path": "data/large",
    "target.path": "data/small",
    "input.size": 12,
    "backbone.width": 4,
    "pretrain.training.steps": 60,
    "pretrain.training.batch_size": 32,
    "pretrain.look_every": 20,
    "adapt.methods": ["fine_tune"],
    "adapt.seeds": [0],
    "adapt.folds": 2,
    "adapt.training.steps": 20,
    "adapt.training.batch_size": 16,
    "evaluate.replicates": 200,
    "run.device": "cpu",
    "run.checkpoint_seconds": 0.02,
}
"""The real settings, reduced to a small size."""


@dataclass(frozen=True)
class Project:
    """A project's folder, and the environment in which its commands run."""

    folder: Path
    environment: dict[str, str]
    program: Path = CROSSTRAIN
    inside: Path = Path()
    """Folder in the project in which commands are typed, relative to it."""

    def run(self, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, without an attempt on the network or a traceback."""
        done = subprocess.run(
            [self.program, *words],
            cwd=self.folder / self.inside,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        assert self.attempts() == ""
        return done

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """Start a command as a terminal does, in a separate process group; see `log`."""
        with (self.folder / "terminal.txt").open("w") as file:
            return subprocess.Popen(
                [self.program, *words],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def log(self) -> str:
        """What the command that was started last has written to the terminal."""
        return (self.folder / "terminal.txt").read_text()

    def stop(self, number: signal.Signals, when: Callable[[], object], *words: str) -> "Stopped":
        """Run a command until a condition holds, then signal it and its children as Ctrl-C does."""
        process = self.start(*words)
        wait(lambda: when() or process.poll() is not None, seconds=200, every=0.005)
        assert process.poll() is None, self.log()
        began = time.monotonic()
        os.killpg(process.pid, number)
        code = process.wait(timeout=240)
        return Stopped(process.pid, code, time.monotonic() - began, self.log().splitlines())

    def checkpoints(self, step: str) -> list[Path]:
        """Checkpoints of unfinished trainings of a step."""
        folder = self.folder / "build/partial" / step
        return [path for path in folder.glob("*") if path.suffix != ".tmp"]

    def attempts(self) -> str:
        """Attempts to reach any network, of any process of the project."""
        file = Path(self.environment["NETWORK_ATTEMPTS"])
        return file.read_text() if file.exists() else ""

    def processes(self) -> list[str]:
        """Command lines of the processes whose working folder is the project."""
        commands = []
        for process in psutil.process_iter(["cwd", "cmdline"]):
            if process.info["cwd"] == str(self.folder):
                commands.append(" ".join(process.info["cmdline"] or []))
        return commands

    def result(self) -> Result:
        """The last report."""
        return Result.model_validate_json((self.folder / "reports/retrain.json").read_text())

    def at(self, folder: Path, api: str | None) -> "Project":
        """The same project in another folder, with the Prefect server at `api` or its own."""
        home = {"PREFECT_HOME": str(folder / ".prefect")}
        attempts = {"NETWORK_ATTEMPTS": str(folder / "attempts.txt")}
        server = {"PREFECT_API_URL": api} if api else {}
        return Project(folder, self.environment | home | attempts | server)


@dataclass(frozen=True)
class Stopped:
    """A command that was ended by a signal."""

    pid: int
    code: int
    seconds: float
    """From the signal to its end."""
    log: list[str]


def make(folder: Path, api: str | None, changes: dict[str, Any]) -> Project:
    """Write a project without data: the demo's settings, shrunk, then changed."""
    folder.mkdir(parents=True)
    settings = load(demo_data.PARAMS).model_dump(mode="json", by_alias=True)
    for key, value in (TINY | changes).items():
        *sections, field = key.split(".")
        tree = settings
        for section in sections:
            tree = tree[section]
        assert field in tree, key
        tree[field] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW"))}
    environment = inherited | {
        "PYTHONPATH": f"{GUARD}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    return Project(folder, environment).at(folder, api)


def wait(condition: Callable[[], object], seconds: float = 60, every: float = 0.02) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"nothing in {seconds} s"
        time.sleep(every)


def together(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do jobs that wait for processes, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def figures(result: Result) -> dict[str, Any]:
    """What an interrupted run and an uninterrupted one must share: all but times and ids."""
    compared = result.model_dump(exclude={"seconds", "mlflow_run", "version", "reasons", "rules"})
    for arm in compared["arms"]:
        del arm["seconds"]
    return compared
