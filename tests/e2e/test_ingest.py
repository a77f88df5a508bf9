"""New data by the command line, the run that is refused meanwhile, and the data as it was."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import copy
from tests.e2e.project import Project
from transfer.data.ingest.changes import Changes


@pytest.fixture(scope="module")
def recorded(digit_project: Project, api: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two datasets, recorded by DVC and committed."""
    made = copy(digit_project, tmp_path_factory.mktemp("ingest") / "project", api)
    made.environment.update(DVC_NO_ANALYTICS="1", DVC_SITE_CACHE_DIR=str(made.folder / ".site"))
    for role in ("AUTHOR", "COMMITTER"):
        made.environment[f"GIT_{role}_NAME"] = "tester"
        made.environment[f"GIT_{role}_EMAIL"] = "tester@example.org"
    ignored = made.folder / ".gitignore"
    ignored.write_text(ignored.read_text() + "quarantine\nattempts.txt\nterminal.txt\n.site\n")
    tell(made, sys.executable, "-m", "dvc", "init", "--quiet")
    made.run("data", "accept")
    tell(made, "git", "add", ".")
    tell(made, "git", "commit", "--quiet", "--message", "data")
    return made


def tell(project: Project, *words: str) -> str:
    done = subprocess.run(
        words, cwd=project.folder, env=project.environment, check=True, capture_output=True
    )
    return done.stdout.decode().strip()


def deliver(folder: Path, pictures: list[tuple[str, bytes]]) -> Path:
    """Pack some images, and a file that is no image."""
    for name, content in [*pictures, ("3/broken.png", b"\x89PNG")]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return Path(shutil.make_archive(str(folder), "zip", folder))


@pytest.mark.slow
def test_killed_then_named_by_retrain_then_carried_through_and_told(
    recorded: Project, digits: list[tuple[str, bytes]], tmp_path: Path, api: str
) -> None:
    project = copy(recorded, tmp_path / "project", api)
    archive = deliver(tmp_path / "new", digits[1295:1320])
    words = ("ingest", str(archive), "--dataset", "small", "--commit")
    journal = project.folder / "data/.ingest.partial/journal.json"
    stopped = project.stop(signal.SIGKILL, journal.exists, *words)
    assert stopped.code == -signal.SIGKILL
    refused = project.run("retrain", code=3)
    assert "crosstrain ingest --resume" in refused.stderr
    project.run("ingest", "--resume")
    changes = report(project)
    assert (len(changes.added), len(changes.duplicates), len(changes.rejects)) == (20, 5, 1)
    assert tell(project, "git", "show", "--name-only", "--format=") == "data.dvc"
    again = project.run(*words, code=4)
    assert "holds nothing new" in again.stderr
    assert "nothing new: 25 duplicates, 1 rejected" in again.stdout
    event = events(api)
    assert event["resource"]["prefect.resource.id"] == "crosstrain.target.small"
    assert event["payload"]["added"] == 20
    assert event["payload"]["md5"] == changes.after


def report(project: Project) -> Changes:
    return Changes.model_validate_json((project.folder / "reports/ingest.json").read_text())


def events(api: str) -> dict[str, dict[str, object]]:
    """The last event of changed data."""
    query = {"filter": {"event": {"name": ["crosstrain.data-changed"]}}}
    events_of_api = httpx.post(f"{api}/events/filter", json=query).json()["events"]
    assert events_of_api
    last: dict[str, dict[str, object]] = events_of_api[0]
    return last


@pytest.mark.slow
def test_an_old_revision_gives_what_it_gave(
    recorded: Project,
    digits: list[tuple[str, bytes]],
    tmp_path: Path,
    api: str,
    make_project: Callable[..., Project],
) -> None:
    project = copy(recorded, tmp_path / "project", api)
    project.run("retrain")
    first = project.result()
    archive = deliver(tmp_path / "new", digits[1300:1400])
    project.run("ingest", str(archive), "--dataset", "small", "--commit")
    project.run("retrain", "--data-rev", "HEAD~1")
    old = project.result()
    assert set(old.seconds.reused) >= {"scan", "pretrain", "adapt", "choose", "evaluate"}
    assert old.chosen == first.chosen
    assert old.data.target.md5 == first.data.target.md5
    assert old.data.target.revision.startswith("HEAD~1 (")
    assert old.version == first.version
    project.run("retrain")
    assert project.result().data.target.items == old.data.target.items + 100
    done = project.run("retrain", "--data-rev", "v9", code=3)
    assert "'v9' is no revision that Git knows" in done.stderr
