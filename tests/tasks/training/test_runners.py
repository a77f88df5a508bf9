"""Engines that train arms: the same results whichever, and the same end when one fails."""

import json
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tasks.runtime.step import step
from tasks.training import runners
from tests import prefect_home
from transfer.core.errors import CrosstrainError, SettingsError
from transfer.settings.project import RunSettings
from transfer.training.feature_cache import Features

ROOT = Path(__file__).parents[3]


def report(folder: Path, engine: str) -> dict:
    """What `arms_elsewhere` reports about an engine."""
    folder.mkdir()
    prefect_home.write(folder / ".prefect")
    (folder / "params.yaml").touch()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.tasks.arms_elsewhere", engine],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder / ".prefect")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def by_threads(tmp_path_factory):
    return report(tmp_path_factory.mktemp("threads") / "project", "threads")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_arms_of_worker_processes_are_those_of_threads_bit_for_bit(tmp_path, by_threads, engine):
    if find_spec(f"prefect_{engine}") is None:
        pytest.skip(f"prefect-{engine} is not installed")
    report_of_engine = report(tmp_path / "project", engine)
    assert report_of_engine["arms"] == by_threads["arms"] and report_of_engine["timed"] > 0
    check_end(report_of_engine)


@pytest.mark.slow
def test_an_arm_that_fails_ends_the_others_which_keep_a_checkpoint(by_threads):
    check_end(by_threads)


def check_end(report_of_engine):
    assert (
        report_of_engine["error"].startswith("adapt scratch/2: ")
        and "learning rate" in report_of_engine["error"]
    )
    assert report_of_engine["stopped"] == "Stopped"
    assert [name[-4:] for name in report_of_engine["kept"]] == [".0.0"]
    assert report_of_engine["results"] == 2
    assert report_of_engine["stop files"] == []


def test_an_engine_that_is_not_installed_is_a_settings_error(monkeypatch):
    monkeypatch.setattr(runners, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'crosstrain\[ray\]'"):
        runners.check(RunSettings(task_runner="ray"))
    runners.check(RunSettings())


def test_a_worker_goes_to_the_project_or_says_that_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    carried = runners.carry(tmp_path, __name__, "where", (3,))
    assert carried.result == (tmp_path, 3) and carried.seconds >= 0
    with pytest.raises(CrosstrainError, match="has no folder"):
        runners.carry(tmp_path / "elsewhere", __name__, "where", ())


def test_features_are_kept_by_every_process_and_for_one_run():
    features, two = Features(), Features()
    here = pickle.loads(pickle.dumps(features))
    assert pickle.loads(pickle.dumps(features)) is here
    assert pickle.loads(pickle.dumps(two)) is not here


@step("where", tags=[])
def where(which):
    """The folder that a step is done in."""
    return Path.cwd(), which
