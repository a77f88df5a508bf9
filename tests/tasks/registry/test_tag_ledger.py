"""A registry that two machines share: two project folders, one store."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from tasks.registry import alias_moves, file_ledger, versions
from tasks.registry.tag_ledger import LONGEST, Tags
from tasks.tracking import connection, locks

BLESSING = {"verdict": "positive", "rules": ["scratch é" * 2000]}


@pytest.fixture(scope="session")
def files(blank_project, make_model, at_once, tmp_path_factory):
    """Put three versions into an empty store, in a separate process."""

    def fill(uri):
        folder = tmp_path_factory.mktemp("files")
        environment = {
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": str(folder / "files"),
        }
        models = [str(make_model(seed)) for seed in (1, 2, 3)]
        job = {"folder": str(folder), "action": "begin", "arguments": [models]}
        assert at_once({**job, "environment": environment}) == [0]
        return environment

    return fill


@pytest.fixture(scope="session")
def sqlite_stores(files, tmp_path_factory):
    template = tmp_path_factory.mktemp("sqlite") / "template.db"
    environment = files(f"sqlite:///{template}")

    def make(number):
        folder = tmp_path_factory.mktemp("store")
        shutil.copy(template, folder / "mlflow.db")
        return {**environment, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}

    return make


@pytest.fixture(scope="session")
def postgres_stores(files, postgres):
    environment = files(postgres.database("versions"))

    def make(number):
        uri = postgres.database(f"shared{number}", template="versions")
        return {**environment, "MLFLOW_TRACKING_URI": uri}

    return make


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request):
    """Make the environment of another store with three versions of `plants`."""
    make = request.getfixturevalue(f"{request.param}_stores")
    return lambda: make(next(NUMBERS))


NUMBERS = iter(range(10_000))
DEATHS = (3, 9, 13, 15, 19, 99)
"""Steps of a promotion: writing the journal, the aliases, the event, removing the journal; none."""


@pytest.fixture
def machines(tmp_path, monkeypatch, store):
    """Switch between two machines that share a store."""
    environment = store()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def at(name):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        return {"folder": str(folder), "environment": environment}

    at("here")
    return at


def promote(version, **more):
    return versions.promote("plants", version, reasons=["better"], blessing=BLESSING, **more)


def events():
    return [(e["event"], e["version"], e["champion_before"]) for e in versions.history("plants")]


def test_every_machine_sees_one_history(machines):
    assert versions.champion("plants") is None
    assert versions.history("plants") == []
    promote(1)
    machines("there")
    assert versions.champion("plants").version == 1
    for _ in range(2):
        versions.refuse("plants", 3, ["worse"], {"verdict": "negative"})
    promote(2)
    machines("here")
    assert versions.rollback("plants", "slow").version == 1
    expected = [("promoted", 1, None), ("refused", 3, 1), ("promoted", 2, 1), ("rolled back", 1, 2)]
    assert events() == expected
    machines("there")
    assert events() == expected
    assert [event["number"] for event in versions.history("plants")] == [1, 2, 3, 4]
    champion = versions.champion("plants")
    assert champion.aliases == {"champion": 1, "previous": 2, "challenger": 2}
    assert champion.blessing == BLESSING
    assert versions.history("animals") == []
    assert not file_ledger.LEDGER.exists() and not file_ledger.JOURNAL.exists()


@pytest.mark.slow
def test_a_promotion_killed_on_one_machine_is_completed_by_another(
    store, machines, at_once, monkeypatch
):
    outcomes = set()
    for step in DEATHS:
        for name, value in (environment := store()).items():
            monkeypatch.setenv(name, value)
        job = {**machines("here"), "environment": environment, "action": "promote"}
        assert at_once({**job, "arguments": [1, "first"]}) == [0]
        (code,) = at_once({**job, "arguments": [2, "b" * 2 * LONGEST], "die_at": step})
        machines("there")
        before = int(connection.client().get_registered_model("plants").aliases["champion"])
        champion = versions.champion("plants")
        assert alias_moves.ledger().interrupted() is None
        happened = champion.version == 2
        expected = [("promoted", 1, None), ("promoted", 2, 1)]
        assert events() == expected[: 1 + happened]
        assert champion.aliases.get("previous") == (1 if happened else None)
        outcomes.add((before, champion.version))
        assert code == (0 if step == DEATHS[-1] else -signal.SIGKILL)
    assert outcomes == {(1, 1), (1, 2), (2, 2)}


def test_machines_promote_one_after_another(machines, at_once):
    promote(1)
    jobs = [
        {**machines(name), "action": "promote", "arguments": [version, f"{name} {version}"]}
        for name in ("here", "there")
        for version in (2, 3)
    ]
    assert at_once(*jobs) == [0, 0, 0, 0]
    history = events()
    assert len(history) in (3, 4, 5)  # promoting the champion again adds nothing
    assert [before for _, _, before in history[1:]] == [version for _, version, _ in history[:-1]]
    aliases = versions.champion("plants").aliases
    assert (aliases["champion"], aliases["previous"]) == (history[-1][1], history[-2][1])


def test_parts_of_a_longer_journal_of_a_killed_process_are_ignored(machines):
    tags, plan = Tags(connection.client()), {"event": {"name": "plants"}, "text": "x" * 3 * LONGEST}
    tags.begin(plan)
    assert tags.interrupted() == plan
    tags.store.delete_registered_model_tag("plants", "crosstrain.journal")
    assert tags.interrupted() is None
    shorter = {**plan, "text": "y" * LONGEST}
    tags.begin(shorter)
    assert tags.interrupted() == shorter
    tags.finish(shorter)
    assert tags.interrupted() is None
    assert not [key for key in tags._tags("plants") if "journal" in key]


def test_a_server_is_given_time_to_finish_the_move_of_another_machine(machines, monkeypatch):
    promote(1)
    plan = {
        "event": {"id": "e", "event": "promoted", "name": "plants", "version": 2, "run_id": "r"},
        "aliases": [["champion", 2]],
        "tags": {},
        "blessing": None,
    }
    alias_moves.ledger().begin(plan)
    monkeypatch.setattr(locks, "is_everywhere", lambda: False)
    monkeypatch.setattr(alias_moves, "PATIENCE", 1.0)
    assert versions.champion("plants").version == 1  # a reader does not complete the move
    versions.refuse("plants", 3, ["worse"], {})
    assert versions.champion("plants").version == 2
    assert [event["id"] for event in versions.history("plants")][1] == "e"


def test_the_journal_names_no_password(machines, monkeypatch):
    promote(1)
    text = json.dumps(versions.history("plants"))
    tags = connection.client().get_model_version("plants", "1").tags
    text += json.dumps(dict(tags)) + "".join(p.read_text() for p in Path().rglob("*.json"))
    assert "s3cret" not in text
