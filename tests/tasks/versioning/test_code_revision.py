"""The revision of the code is that of its clone, else the installed version."""

import subprocess
from importlib.metadata import version

from tasks.versioning.code_revision import code_revision, git_revision

INSTALLED = f"crosstrain {version('crosstrain')}"


def git(*command):
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *command], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_clean_commit_a_change_and_a_tag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    assert code_revision(tmp_path) == INSTALLED  # no commit yet
    (tmp_path / "a.txt").write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "HEAD")
    assert code_revision(tmp_path) == head and len(head) == 40
    git("tag", "v1")
    assert code_revision(tmp_path) == head
    (tmp_path / "a.txt").write_text("2")
    assert code_revision(tmp_path) == f"{head}-dirty"


def test_the_project_is_not_taken_for_the_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = code_revision()
    git("init", "-q")
    (tmp_path / "params.yaml").write_text("{}")
    git("add", ".")
    git("commit", "-q", "-m", "project")
    assert code_revision() == before
    assert git_revision(tmp_path) == git("rev-parse", "HEAD")


def test_a_folder_inside_a_repository_holds_an_installation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    (tmp_path / ".venv").mkdir()
    assert code_revision(tmp_path / ".venv") == INSTALLED


def test_outside_of_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_revision(tmp_path) == INSTALLED
    assert git_revision(tmp_path) == ""


def test_without_git(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_revision(tmp_path) == INSTALLED
