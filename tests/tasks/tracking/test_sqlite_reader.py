"""Values read without MLflow equal those of MLflow; unknown stores are left to MLflow."""

import sqlite3
import subprocess
import sys

import pytest

from tasks.registry import versions
from tasks.tracking import connection, models, runs, sqlite_reader

RECORD = runs.RunRecord("key", "run", {}, {}, {}, [], [], {})
ASK = """
import sys
from tasks.registry import versions
from tasks.tracking import files, runs
print(versions.champion("plants"), files.model_folder("plants", 2))
print(runs.log_run(runs.RunRecord("k2", "run", {}, {}, {}, [], [], {})))
print(*sorted(name for name in sys.modules if name.split(".")[0] in ("mlflow", "sqlalchemy")))
"""


def edit(query, *values):
    with sqlite3.connect(connection.DATABASE) as database:
        database.execute(query, values)
    database.close()


def test_versions_and_aliases_are_those_of_mlflow(three_versions):
    versions.promote("plants", 1, reasons=["first"], blessing={})
    versions.promote("plants", 3, reasons=["better"], blessing={})
    store = connection.client()
    assert sqlite_reader.aliases("plants") == {"champion": 3, "challenger": 3, "previous": 1}
    assert sqlite_reader.aliases("plants") == {
        alias: int(number) for alias, number in store.get_registered_model("plants").aliases.items()
    }
    for number in (1, 2, 3):
        expected, version = (
            store.get_model_version("plants", str(number)),
            sqlite_reader.version("plants", number),
        )
        assert version is not None
        assert (version.number, version.run_id, version.source) == (
            number,
            expected.run_id,
            expected.source,
        )
        assert version.tags == expected.tags
        assert version.location == store.get_model_version_download_uri("plants", str(number))
    assert sqlite_reader.version("plants", 4) is None
    assert sqlite_reader.aliases("animals") == {}


def test_a_finished_run_is_found_by_its_key_as_by_mlflow(project):
    assert sqlite_reader.finished_run("key") is None
    run = runs.log_run(RECORD)
    assert sqlite_reader.finished_run("key") == run == runs.log_run(RECORD)
    assert sqlite_reader.finished_run("another") is None
    connection.client().delete_run(run)
    assert sqlite_reader.finished_run("key") is None
    assert runs.log_run(RECORD) != run


def test_an_unfinished_run_is_not_returned(project):
    run = runs.log_run(RECORD)
    connection.client().set_terminated(run, "KILLED")
    assert sqlite_reader.finished_run("key") is None


def test_a_registered_model_is_looked_up_by_its_key_after_its_files_have_its_name(
    project, make_model
):
    model, run = make_model(0), runs.log_run(RECORD)
    assert models.register("plants", model, "m", run, {}) == 1
    assert [version.number for version in sqlite_reader.versions_of("plants", "m")] == [1]
    assert sqlite_reader.versions_of("plants", "n") == []
    assert sqlite_reader.versions_of("animals", "m") == []
    assert models.register("plants", model, "m", run, {}) == 1
    edit("UPDATE logged_model_tags SET tag_value = '[]' WHERE tag_key = ?", "mlflow.modelVersions")
    assert sqlite_reader.versions_of("plants", "m") == []
    assert models.register("plants", model, "m", run, {}) == 1
    assert [version.number for version in sqlite_reader.versions_of("plants", "m")] == [1]


def test_a_deleted_version_is_not_returned(three_versions):
    connection.client().delete_model_version("plants", "2")
    assert sqlite_reader.version("plants", 2) is None


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
def test_nothing_is_read_from_an_unknown_schema(project, harm):
    harm()
    assert sqlite_reader.aliases("plants") is None
    assert sqlite_reader.version("plants", 1) is None
    assert sqlite_reader.finished_run("key") is None
    assert sqlite_reader.versions_of("plants", "m") == []


def test_nothing_is_read_from_another_store(three_versions, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert sqlite_reader.aliases("plants") is None
    assert sqlite_reader.version("plants", 1) is None


def test_an_unchanged_project_is_answered_without_mlflow(three_versions):
    versions.promote("plants", 2, reasons=["better"], blessing={})
    run = runs.log_run(runs.RunRecord("k2", "run", {}, {}, {}, [], [], {}))
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    version_text, run_id, imported = done.stdout.splitlines()
    assert "version=2" in version_text and version_text.endswith("artifacts/artifacts/model")
    assert (run_id, imported) == (run, "")


def test_the_schema_is_that_of_the_installed_mlflow(project):
    with sqlite3.connect(connection.DATABASE) as database:
        assert database.execute("SELECT * FROM alembic_version").fetchall() == [
            (sqlite_reader.SCHEMA,)
        ]
    database.close()
