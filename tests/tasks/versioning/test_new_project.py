"""A project is created completely, in any folder, and no existing file is lost."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks.versioning import new_project
from tests.death import die_at
from transfer.core.errors import SettingsError
from transfer.settings.project import Settings, load

FILES = {
    ".dvc/.gitignore",
    ".dvc/config",
    ".dvc/plots.html",
    ".dvc/plots/curves.json",
    ".dvcignore",
    ".gitignore",
    "README.md",
    "dvc.yaml",
    "mlruns/README.md",
    "params.yaml",
    "prefect.yaml",
}


def files(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if path.parts[0] != ".git"}


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def dvc(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "dvc", *words]
    environment = os.environ | {"DVC_SITE_CACHE_DIR": str(folder.parent / "site")}
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_folder_becomes_a_project_in_a_repository_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "far/plants"
    made = new_project.create(folder)
    assert {path.as_posix() for path in made} == FILES == files(folder)
    assert made[-1] == Path("params.yaml")
    assert Path(git(folder, "rev-parse", "--show-toplevel").strip()) == folder.resolve()
    assert "verify" in dvc(folder, "stage", "list")
    (folder / "data/target").mkdir(parents=True)
    (folder / "data/target/a.png").write_bytes(b"a")
    dvc(folder, "add", "data")
    assert git(folder, "status", "--porcelain", "--untracked-files=all", "data").strip() == ""


def test_existing_data_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "data/target/oak").mkdir(parents=True)
    (tmp_path / "data/target/oak/1.png").write_bytes(b"oak")
    new_project.create(tmp_path)
    assert files(tmp_path) == FILES | {"data/target/oak/1.png"}
    assert (tmp_path / "data/target/oak/1.png").read_bytes() == b"oak"


def test_inside_a_repository_no_second_repository_is_created(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    folder = tmp_path / "models/plants"
    new_project.create(folder)
    assert not (folder / ".git").exists()
    assert "no_scm" not in (folder / ".dvc/config").read_text()
    (folder / "data").mkdir()
    (folder / "data/a.csv").write_text("1\n")
    dvc(folder, "add", "data")
    assert "data.dvc" in git(folder, "status", "--porcelain", "--untracked-files=all")


@pytest.mark.parametrize("how", ["not wanted", "not installed"])
def test_without_git_dvc_works_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "not installed":
        monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / "plants"
    new_project.create(folder, git=how == "not installed")
    assert files(folder) == FILES
    assert not (folder / ".git").exists()
    (folder / "data").mkdir()
    (folder / "data/a.csv").write_text("1\n")
    dvc(folder, "add", "data")
    assert (folder / "data.dvc").exists()


@pytest.mark.parametrize("name", [".gitignore", "README.md", ".dvc/config", "mlruns"])
def test_a_conflicting_file_is_named_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine\n")
    with pytest.raises(SettingsError, match=f"overwrite: {name};"):
        new_project.create(tmp_path)
    assert files(tmp_path) == {name}
    assert (tmp_path / name).read_text() == "mine\n"
    assert not (tmp_path / ".git").exists()


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").mkdir()
    with pytest.raises(SettingsError, match=r"overwrite: dvc\.yaml;"):
        new_project.create(tmp_path)


def test_a_project_is_not_created_twice(tmp_path: Path) -> None:
    new_project.create(tmp_path, git=False)
    with pytest.raises(SettingsError, match="is already a project"):
        new_project.create(tmp_path, git=False)


def test_a_file_in_place_of_the_folder_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "plants").write_text("a file\n")
    with pytest.raises(SettingsError, match="plants is a file; expected a folder"):
        new_project.create(tmp_path / "plants")
    with pytest.raises(SettingsError, match=r"cannot make a project in .*inner: Not a directory"):
        new_project.create(tmp_path / "plants/inner")


def test_a_killed_creation_leaves_no_project_and_the_next_one_completes_it(tmp_path: Path) -> None:
    for count in itertools.count():
        folder = tmp_path / str(count)
        status = die_at(count, lambda folder=folder: new_project.create(folder, git=False))
        if status == 0:
            break
        assert status == -9
        assert not (folder / "params.yaml").exists() or files(folder) == FILES
        if not (folder / "params.yaml").exists():
            new_project.create(folder, git=False)
        assert files(folder) == FILES
    assert count > 3 * len(FILES)


def test_its_settings_are_the_defaults(tmp_path: Path) -> None:
    new_project.create(tmp_path, git=False)
    assert load(tmp_path / "params.yaml") == Settings()
    assert len((tmp_path / "params.yaml").read_text().splitlines()) <= 50
    assert yaml.safe_load((tmp_path / "params.yaml").read_text())["source"] == {
        "path": "data/source"
    }
