"""Reads the project's own store from its database, without MLflow.

The import of MLflow and its database layer takes three seconds, most of the time of a registry
query. This module never writes. For another store, another schema, or a busy or damaged database,
the result is None. The caller then uses MLflow, which also reports the error.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tasks.tracking.address import ARTIFACTS, DATABASE, EXPERIMENT, KEY, VERSIONS_TAG, is_own

SCHEMA = "dc11669786a5"
"""The supported schema version, as MLflow 3.17 names it in its database."""
_DELETED = "Deleted_Internal"
_FINISHED = """
    SELECT r.run_uuid FROM runs r JOIN tags t USING (run_uuid) JOIN experiments e
    ON e.experiment_id = r.experiment_id
    WHERE e.name = ? AND e.lifecycle_stage = 'active' AND e.artifact_location = ?
    AND r.lifecycle_stage = 'active' AND r.status = 'FINISHED' AND t.key = ? AND t.value = ?
    ORDER BY r.start_time DESC, r.run_uuid LIMIT 1"""
_VERSION = f"""
    SELECT v.version, v.run_id, v.source, coalesce(v.storage_location, v.source)
    FROM model_versions v WHERE v.name = ? AND v.current_stage != '{_DELETED}'"""
_WITH_KEY = f"""{_VERSION} AND EXISTS (
    SELECT 1 FROM model_version_tags t
    WHERE t.name = v.name AND t.version = v.version AND t.key = ? AND t.value = ?
    ) ORDER BY v.last_updated_time DESC, v.version DESC"""
_IS_NAMED = """
    SELECT 1 FROM logged_models m JOIN logged_model_tags t USING (model_id)
    WHERE m.artifact_location = ? AND m.lifecycle_stage = 'active'
    AND t.tag_key = ? AND t.tag_value = ?"""
SqlRows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Version:
    """A registered version."""

    number: int
    run_id: str
    source: str
    location: str
    """Of the version's files."""
    tags: dict[str, str]


def finished_run(key: str) -> str | None:
    """Id of the newest finished run with a key."""
    rows = _read(_FINISHED, EXPERIMENT, ARTIFACTS, KEY, key)
    return rows[0][0] if rows else None


def aliases(name: str) -> dict[str, int] | None:
    """Every alias of a registered model, to its version; empty when there is no such model."""
    rows = _read("SELECT alias, version FROM registered_model_aliases WHERE name = ?", name)
    return None if rows is None else {alias: int(version) for alias, version in rows}


def version(name: str, number: int) -> Version | None:
    """A version of a registered model."""
    versions = _versions(name, _read(f"{_VERSION} AND v.version = ?", name, number))
    return versions[0] if versions else None


def versions_of(name: str, key: str) -> Sequence[Version]:
    """Versions with a key whose logged model has the tag of their name and number, newest first."""
    versions = _versions(name, _read(_WITH_KEY, name, KEY, key))
    return [
        candidate
        for candidate in versions
        if _read(
            _IS_NAMED, candidate.source, VERSIONS_TAG, versions_tag_value(name, candidate.number)
        )
    ]


def versions_tag_value(name: str, number: int) -> str:
    """Value of the tag `VERSIONS_TAG` of a logged model that was registered as a version."""
    return json.dumps([{"name": name, "version": number}])


def _versions(name: str, rows: SqlRows | None) -> list[Version]:
    versions = []
    for number, run, source, location in rows or []:
        query = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
        if (tags := _read(query, name, number)) is not None:
            versions.append(Version(int(number), run, source, location, dict(tags)))
    return versions


def _read(query: str, *values: object) -> SqlRows | None:
    if not is_own() or not DATABASE.is_file():
        return None
    address = f"{DATABASE.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            if connection.execute("SELECT version_num FROM alembic_version").fetchall() != [
                (SCHEMA,)
            ]:
                return None
            return connection.execute(query, values).fetchall()
    except sqlite3.Error:
        return None
