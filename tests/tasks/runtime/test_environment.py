"""Telemetry is off and start-up is fast, unless the user sets another value."""

import os

import pytest

from tasks.runtime import environment

NAMES = [
    *environment.SILENCE, *environment.SPEED, *environment.CORES, *environment.LOGS,
    "PREFECT_HOME",
]  # fmt: skip


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that the test's end restores it
        monkeypatch.delenv(name)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")


def test_everything_is_set_and_prefect_lives_in_the_project(tmp_path):
    environment.prepare(tmp_path)
    assert all(os.environ[name] for name in NAMES)
    assert os.environ["PREFECT_HOME"] == str(tmp_path / ".prefect")
    assert os.environ["DO_NOT_TRACK"] == "1"


def test_what_the_user_has_set_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", "/elsewhere")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    environment.prepare(tmp_path)
    assert os.environ["PREFECT_HOME"] == "/elsewhere"
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_local_servers_are_not_reached_through_a_proxy(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "intern.example,localhost")
    environment.prepare(tmp_path)
    environment.prepare(tmp_path)
    assert os.environ["NO_PROXY"] == "intern.example,localhost,127.0.0.1"
    assert os.environ["no_proxy"] == "127.0.0.1,localhost"
