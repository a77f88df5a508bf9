"""What a team has: PostgreSQL, S3, a Prefect server with a password, and MLflow's own server."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import NullPool, create_engine, text

from tests import postgres as postgresql
from tests import s3
from tests.e2e.project import Project, wait
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.postgres]
SECRET = "keep-this-to-yourself"
EASY = ("--set", "promote.rules=[{rule: loads_back, tolerance: 0.001}]")
HISTORY = """
from tasks.registry import versions
print([(e["event"], e["version"]) for e in versions.history("crosstrain-small")])
"""
ROLLBACK = 'from tasks.registry import versions; versions.rollback("crosstrain-small", "to try it")'


@contextmanager
def serving(command: list[str], url: str, project: Project, more: dict[str, str]) -> Iterator[str]:
    """A server that answers at an address; its output is in server.txt."""
    with (project.folder / "server.txt").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=project.folder,
            env=project.environment | more,
            stdout=log,
            stderr=log,
        )

        def is_up() -> bool:
            assert process.poll() is None, (project.folder / "server.txt").read_text()
            try:
                return httpx.get(f"{url}/health", trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        try:
            wait(is_up, seconds=200, every=0.3)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=60)


@contextmanager
def prefect(project: Project) -> Iterator[dict[str, str]]:
    """A Prefect server with a password; gives what its clients need."""
    port = str(free_port())
    more = {"PREFECT_SERVER_API_AUTH_STRING": f"keeper:{SECRET}", "PREFECT_SERVER_API_PORT": port}
    command = ["prefect", "server", "start", "--host", "127.0.0.1"]
    with serving(command, f"http://127.0.0.1:{port}/api", project, more) as url:
        yield {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": f"keeper:{SECRET}"}


@contextmanager
def mlflow(project: Project, store: str, objects: dict[str, str]) -> Iterator[dict[str, str]]:
    """MLflow's server with passwords, the only process that uses the database and the files."""
    port = str(free_port())
    users = project.folder / "users.ini"
    users.write_text(
        "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///users.db\n"
        "admin_username = keeper\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    more = {
        **objects,
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_ARTIFACTS_DESTINATION": s3.make_bucket(objects, "proxied"),
        "MLFLOW_AUTH_CONFIG_PATH": str(users),
        "MLFLOW_AUTH_ADMIN_PASSWORD": SECRET,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-this-test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = ["mlflow", "server", "--app-name", "basic-auth", "--workers", "1", "--port", port]
    with serving(command, f"http://127.0.0.1:{port}", project, more) as url:
        yield {
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_USERNAME": "keeper",
            "MLFLOW_TRACKING_PASSWORD": SECRET,
        }


def at(project: Project, folder: Path, environment: dict[str, str]) -> Project:
    """A machine of the team: a copy of the project, with nothing but the environment in common."""
    shutil.copytree(project.folder, folder)
    own = {**environment, "NETWORK_ATTEMPTS": str(folder / "attempts.txt")}
    own["PREFECT_HOME"] = str(folder / ".prefect")
    return Project(folder, project.environment | own)


def ask(project: Project, script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def champion(project: Project) -> tuple[int, dict[str, int]]:
    shown = json.loads(project.run("champion", "--target", "small", "--json").stdout)
    return shown["version"], shown["aliases"]


def use(here: Project, there: Project) -> None:
    """Train, look, train again, roll back, and predict, on two machines in turn."""
    here.run("retrain", *EASY)
    assert champion(here) == champion(there) == (1, {"champion": 1, "challenger": 1})
    there.run("retrain", "--set", "adapt.seeds=[3]", *EASY)
    assert champion(here) == (2, {"champion": 2, "challenger": 2, "previous": 1})
    ask(here, ROLLBACK)
    assert champion(there) == (1, {"champion": 1, "challenger": 2, "previous": 2})
    expected = str([("promoted", 1), ("promoted", 2), ("rolled back", 1)])
    assert ask(here, HISTORY) == ask(there, HISTORY) == expected
    pictures = [str(path) for path in sorted((here.folder / "data/small").rglob("*.png"))[:3]]
    answers = [m.run("predict", *pictures, "--target", "small", "--json") for m in (here, there)]
    assert answers[0].stdout == answers[1].stdout
    assert len(answers[0].stdout.splitlines()) == 3
    assert not (there.folder / "mlruns/mlflow.db").exists()
    assert not (there.folder / "mlruns/ledger.jsonl").exists()


def assert_told_nowhere(secrets: tuple[str, ...], *machines: Project) -> None:
    for machine in machines:
        for path in machine.folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not [word for word in secrets if word.encode() in content], path


def test_two_machines_with_postgresql_s3_and_a_prefect_server(
    digit_project: Project,
    postgres: postgresql.Server,
    objects: dict[str, str],
    tmp_path: Path,
) -> None:
    store = postgres.database("team")
    environment = {
        **objects,
        "MLFLOW_TRACKING_URI": store,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": s3.make_bucket(objects, "team"),
    }
    server = at(digit_project, tmp_path / "server", {})
    with prefect(server) as variables:
        here, there = (at(digit_project, tmp_path / n, environment | variables) for n in ("a", "b"))
        use(here, there)
        nobody = Project(here.folder, {**here.environment, "PREFECT_API_AUTH_STRING": "k:wrong"})
        refused = nobody.run("retrain", code=2)
        assert "PREFECT_API_AUTH_STRING" in refused.stderr
        runs = httpx.post(
            f"{variables['PREFECT_API_URL']}/flow_runs/filter", json={}, auth=("keeper", SECRET)
        ).json()
        assert len(runs) == 2
        assert SECRET not in json.dumps(runs)
    assert_told_nowhere((SECRET, s3.SECRET, postgresql.PASSWORD), here, there, server)
    with create_engine(store, poolclass=NullPool).connect() as database:
        for table in ("tags", "params", "model_version_tags", "registered_model_tags"):
            rows = str(database.execute(text(f"SELECT * FROM {table}")).all())
            for word in (SECRET, s3.SECRET, postgresql.PASSWORD):
                assert word not in rows


def test_a_project_moves_from_one_folder_to_a_shared_store_without_training_again(
    digit_project: Project,
    postgres: postgresql.Server,
    objects: dict[str, str],
    tmp_path: Path,
    api: str,
) -> None:
    alone = at(digit_project, tmp_path / "a", {"PREFECT_API_URL": api})
    for seed in (0, 3):
        alone.run("retrain", "--set", f"adapt.seeds=[{seed}]", *EASY)
    before = champion(alone)
    shared = {
        **objects,
        "MLFLOW_TRACKING_URI": postgres.database("moved"),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": s3.make_bucket(objects, "moved"),
    }
    team = Project(alone.folder, alone.environment | shared)
    team.run("retrain", "--set", "adapt.seeds=[3]", *EASY)
    assert set(team.result().seconds.reused) >= {"pretrain", "adapt", "evaluate", "compose"}
    assert champion(team) == (1, {"champion": 1, "challenger": 1})
    assert ask(team, HISTORY) == str([("promoted", 1)])
    assert champion(alone) == before == (2, {"champion": 2, "challenger": 2, "previous": 1})


def test_two_machines_with_a_server_of_mlflow(
    digit_project: Project,
    postgres: postgresql.Server,
    objects: dict[str, str],
    tmp_path: Path,
    api: str,
) -> None:
    server = at(digit_project, tmp_path / "server", {})
    with mlflow(server, postgres.database("served"), objects) as variables:
        environment = variables | {"PREFECT_API_URL": api}
        here, there = (at(digit_project, tmp_path / n, environment) for n in ("a", "b"))
        assert "AWS_SECRET_ACCESS_KEY" not in here.environment.keys() - os.environ.keys()
        use(here, there)
        nobody = {**here.environment, "MLFLOW_TRACKING_PASSWORD": "wrong-password"}
        refused = Project(here.folder, nobody).run("champion", "--target", "small", code=2)
        assert "MLFLOW_TRACKING_PASSWORD" in refused.stderr
        models = f"{variables['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/registered-models/search"
        assert httpx.get(models).status_code == 401
    assert_told_nowhere((SECRET, s3.SECRET, postgresql.PASSWORD), here, there)
    assert SECRET not in (server.folder / "server.txt").read_text()
