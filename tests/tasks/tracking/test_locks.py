"""Locks that hold on all machines: two folders, one PostgreSQL."""

import threading
import time

import pytest

from tasks.tracking import locks


@pytest.fixture
def busy(tmp_path, monkeypatch):
    """Hold a lock in a thread with another lock folder for a while; reports its release."""
    taken, free = threading.Event(), threading.Event()
    left = []

    def hold(name):
        with locks._advisory(name):
            taken.set()
            free.wait(30)
            left.append(time.monotonic())

    def start(name):
        monkeypatch.chdir(tmp_path)
        thread = threading.Thread(target=hold, args=[name])
        thread.start()
        assert taken.wait(30)
        threading.Timer(0.5, free.set).start()
        return left

    yield start
    free.set()


@pytest.mark.postgres
def test_a_lock_in_postgresql_keeps_other_machines_out(postgres, busy, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres.address("postgres"))
    left = busy("promotion")
    with locks.lock("other"):
        assert left == []
    with locks.lock("promotion"):
        assert left != []


def test_keys_differ_and_fit_into_64_bits():
    keys = {locks.key(name) for name in ("promotion", "runs", "models", "store")}
    assert len(keys) == 4
    assert all(-(2**63) <= key < 2**63 for key in keys)


@pytest.mark.parametrize(
    ("uri", "everywhere"),
    [
        ("postgresql://db/mlflow", True),
        ("postgresql+psycopg://db/mlflow", True),
        ("sqlite:///elsewhere.db", True),
        ("mysql://db/mlflow", False),
        ("http://127.0.0.1:5000", False),
        ("https://mlflow.example.org", False),
    ],
)
def test_where_a_lock_holds_for_every_machine(monkeypatch, uri, everywhere):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert locks.is_everywhere() is everywhere
