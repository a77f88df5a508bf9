"""What is read without MLflow is what MLflow says; whatever is odd is left to MLflow."""

import sqlite3
import subprocess
import sys

import pytest

from tasks import registry, track
from tasks.track import connection, glance

RECORD = track.RunRecord("key", "run", {}, {}, {}, [], [], {})
ASK = """
import sys
from tasks import registry, track
print(registry.champion("plants"), track.model_folder("plants", 2))
print(track.log_run(track.RunRecord("k2", "run", {}, {}, {}, [], [], {})))
print(*sorted(name for name in sys.modules if name.split(".")[0] in ("mlflow", "sqlalchemy")))
"""


def edit(query, *values):
    with sqlite3.connect(connection.DATABASE) as database:
        database.execute(query, values)
    database.close()


def test_versions_and_aliases_are_those_of_mlflow(three_versions):
    registry.promote("plants", 1, reasons=["first"], blessing={})
    registry.promote("plants", 3, reasons=["better"], blessing={})
    store = track.client()
    assert glance.aliases("plants") == {"champion": 3, "challenger": 3, "previous": 1}
    assert glance.aliases("plants") == {
        alias: int(number) for alias, number in store.get_registered_model("plants").aliases.items()
    }
    for number in (1, 2, 3):
        told, found = (
            store.get_model_version("plants", str(number)),
            glance.version("plants", number),
        )
        assert found is not None
        assert (found.number, found.run_id, found.source) == (number, told.run_id, told.source)
        assert found.tags == told.tags
        assert found.location == store.get_model_version_download_uri("plants", str(number))
    assert glance.version("plants", 4) is None
    assert glance.aliases("animals") == {}


def test_a_finished_run_is_found_by_its_key_as_by_mlflow(project):
    assert glance.finished_run("key") is None
    run = track.log_run(RECORD)
    assert glance.finished_run("key") == run == track.log_run(RECORD)
    assert glance.finished_run("another") is None
    track.client().delete_run(run)
    assert glance.finished_run("key") is None
    assert track.log_run(RECORD) != run


def test_a_run_that_is_not_finished_is_none(project):
    run = track.log_run(RECORD)
    track.client().set_terminated(run, "KILLED")
    assert glance.finished_run("key") is None


def test_a_registered_model_is_known_by_its_key_once_its_files_bear_its_name(project, make_model):
    model, run = make_model(0), track.log_run(RECORD)
    assert track.register("plants", model, "m", run, {}) == 1
    assert [one.number for one in glance.versions_of("plants", "m")] == [1]
    assert glance.versions_of("plants", "n") == []
    assert glance.versions_of("animals", "m") == []
    assert track.register("plants", model, "m", run, {}) == 1
    edit("UPDATE logged_model_tags SET tag_value = '[]' WHERE tag_key = ?", "mlflow.modelVersions")
    assert glance.versions_of("plants", "m") == []
    assert track.register("plants", model, "m", run, {}) == 1
    assert [one.number for one in glance.versions_of("plants", "m")] == [1]


def test_a_deleted_version_is_not_there(three_versions):
    track.client().delete_model_version("plants", "2")
    assert glance.version("plants", 2) is None


@pytest.mark.parametrize(
    "harm",
    [
        lambda: edit("UPDATE alembic_version SET version_num = 'another'"),
        lambda: edit("DROP TABLE alembic_version"),
        lambda: connection.DATABASE.write_bytes(b"nothing of the kind" * 100),
        connection.DATABASE.unlink,
    ],
    ids=["another schema", "no schema", "damaged", "gone"],
)
def test_nothing_is_said_of_a_store_that_is_not_known(project, harm):
    harm()
    assert glance.aliases("plants") is None
    assert glance.version("plants", 1) is None
    assert glance.finished_run("key") is None
    assert glance.versions_of("plants", "m") == []


def test_nothing_is_said_of_another_store(three_versions, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert glance.aliases("plants") is None
    assert glance.version("plants", 1) is None


def test_an_unchanged_project_is_answered_without_mlflow(three_versions):
    registry.promote("plants", 2, reasons=["better"], blessing={})
    run = track.log_run(track.RunRecord("k2", "run", {}, {}, {}, [], [], {}))
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, told, imported = done.stdout.splitlines()
    assert "version=2" in found and found.endswith("artifacts/artifacts/model")
    assert (told, imported) == (run, "")


def test_the_schema_is_that_of_the_installed_mlflow(project):
    with sqlite3.connect(connection.DATABASE) as database:
        assert database.execute("SELECT * FROM alembic_version").fetchall() == [(glance.SCHEMA,)]
    database.close()
