import shutil
import sqlite3
import sys
import time
import traceback
from contextlib import closing

import pytest

from tasks.tracking import address, connection
from transfer.core.errors import CrosstrainError, SettingsError


def ask(database, query):
    with closing(sqlite3.connect(database)) as asked:
        return asked.execute(query).fetchall()


def test_an_empty_folder_has_no_store_and_a_query_creates_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert not address.exists()
    assert not list(tmp_path.iterdir())


def test_the_store_lies_in_the_project_and_names_no_folder_outside(project):
    assert address.exists()
    assert {p.name for p in project.iterdir()} == {"mlruns"}
    assert ask("mlruns/mlflow.db", "PRAGMA journal_mode") == [("wal",)]
    places = ask("mlruns/mlflow.db", "SELECT name, artifact_location FROM experiments")
    assert set(places) == {("Default", "mlruns/artifacts"), ("crosstrain", "mlruns/artifacts")}


def test_an_absolute_location_is_made_relative(project):
    with closing(sqlite3.connect("mlruns/mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = '/elsewhere'")
    connection.experiment_id(connection.client())
    assert ask("mlruns/mlflow.db", "SELECT DISTINCT artifact_location FROM experiments") == [
        ("mlruns/artifacts",)
    ]


def test_a_deleted_experiment_is_restored(project):
    store = connection.client()
    known = connection.experiment_id(store)
    store.delete_experiment(known)
    assert connection.experiment_id(store) == known
    assert store.get_experiment(known).lifecycle_stage == "active"


def test_another_store_is_used_and_not_changed(project, tmp_path, monkeypatch):
    other = tmp_path / "other.db"
    ask("mlruns/mlflow.db", f"VACUUM INTO '{other}'")
    with closing(sqlite3.connect(other)) as database, database:
        database.execute("UPDATE experiments SET artifact_location = '/elsewhere'")
    shutil.rmtree(project / "mlruns")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    connection.experiment_id(connection.client())
    assert ask(other, "SELECT DISTINCT artifact_location FROM experiments") == [("/elsewhere",)]
    assert not (project / "mlruns" / "mlflow.db").exists()


@pytest.mark.parametrize("address", ["sqlite:///mlruns/mlflow.db", "sqlite:///{}/mlruns/mlflow.db"])
def test_the_own_store_is_known_by_its_address(project, monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(project))
    assert connection.is_own()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert not connection.is_own()


def test_a_store_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(CrosstrainError, match=r"could not open the tracking store .*mlflow\.db"):
        connection.client()


@pytest.mark.postgres
def test_a_database_without_a_place_for_files_is_refused(project, postgres, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres.database("homeless"))
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", raising=False)
    message = r"keeper:\*\*\*@127.* holds no files; set a place for them, .*=s3://bucket/folder"
    with pytest.raises(SettingsError, match=message):
        connection.experiment_id(connection.client())


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("postgresql://keeper:wrong-word@127.0.0.1:{port}/postgres", "password authentication"),
        ("postgresql://keeper:wrong-word@127.0.0.1:9/mlflow", "refused"),
        ("http://keeper:wrong-word@127.0.0.1:9", "refused"),
        ("nonsense://keeper:wrong-word@127.0.0.1:9", "keeper"),
    ],
)
def test_an_unreachable_store_is_reported_at_once_without_its_password(
    project, postgres, monkeypatch, uri, message
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(port=postgres.port))
    began = time.monotonic()
    with pytest.raises(CrosstrainError, match=message) as caught:
        connection.client()
    assert time.monotonic() - began < 20
    message = "".join(traceback.format_exception(caught.value))
    assert "keeper:***@127.0.0.1" in str(caught.value)
    assert "wrong-word" not in message


def test_a_missing_driver_is_reported_with_its_extra(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://keeper:word@127.0.0.1:9/mlflow")
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(SettingsError, match=r"psycopg2 .* pip install 'crosstrain\[postgres\]'"):
        connection.client()


@pytest.mark.postgres
def test_two_processes_may_open_an_empty_database_together(project, postgres, at_once):
    uri = postgres.database("together")
    environment = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_DEFAULT_ARTIFACT_ROOT": str(project)}
    job = {"action": "begin", "arguments": [[]], "environment": environment}
    folders = [project / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir()
    assert at_once(*({**job, "folder": str(folder)} for folder in folders)) == [0, 0]
