"""The revision comes from Git; without Git there is no error."""

import subprocess

from tasks.versioning.code_revision import code_revision


def git(*command):
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *command], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_clean_commit_a_change_and_a_tag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    assert code_revision() == "unversioned"  # no commit yet
    (tmp_path / "a.txt").write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "HEAD")
    assert code_revision() == head and len(head) == 40
    git("tag", "v1")
    assert code_revision() == head
    (tmp_path / "a.txt").write_text("2")
    assert code_revision() == f"{head}-dirty"


def test_outside_of_git(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_revision() == "unversioned"


def test_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_revision() == "unversioned"
