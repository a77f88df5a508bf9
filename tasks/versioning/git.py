"""What the project asks of Git about data.dvc: an old one, and to commit a new one."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from transfer.core.errors import CrosstrainError, DataRefusedError, SettingsError


def commit_of(revision: str) -> str:
    """The commit that a revision names; '' when Git knows none, or there is no Git here."""
    done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    return done.stdout.strip() if done.returncode == 0 else ""


def show(commit: str, file: Path) -> str:
    """A file of the working folder as of a commit.

    Raises:
        DataRefusedError: it was not there.
    """
    done = _git("show", f"{commit}:./{file.as_posix()}")
    if done.returncode:
        raise DataRefusedError(
            f"there is no {file} in the revision {commit} ({done.stderr.strip()}); name one that "
            f"records data: `git log -- {file}`"
        )
    return done.stdout


def check(file: Path) -> None:
    """Make sure that a file could be committed, before anything is changed.

    Raises:
        SettingsError: there is no Git repository here, it ignores the file, nobody is named as the
            author, or a merge or the like is under way.
    """
    if _git("rev-parse", "--is-inside-work-tree").stdout.strip() != "true":
        raise SettingsError("there is no Git repository here to commit to; leave --commit out")
    if _git("check-ignore", "--quiet", file.as_posix()).returncode == 0:
        raise SettingsError(f"Git ignores {file}; take it out of .gitignore to commit it")
    if (done := _git("var", "GIT_COMMITTER_IDENT")).returncode:
        raise SettingsError(f"Git cannot commit: {done.stderr.strip()}")
    if commit_of("MERGE_HEAD") or commit_of("CHERRY_PICK_HEAD"):
        raise SettingsError(
            "a merge or a cherry-pick is under way; finish it, or leave --commit out"
        )


def commit(files: Sequence[Path], message: str) -> str:
    """Commit files as they are, and nothing else that is staged; the commit that holds them.

    Raises:
        CrosstrainError: Git refused, with what it said.
    """
    names = [file.as_posix() for file in files]
    if _git("status", "--porcelain", "--", *names).stdout:
        _checked("add", "--", *names)
        _checked("commit", "--quiet", "--message", message, "--", *names)
    return commit_of("HEAD")


def added_lines(file: Path) -> set[str]:
    """Lines of a file that its last commit lacks; all of them when it was never committed."""
    if not file.is_file():
        return set()
    old = _git("show", f"HEAD:./{file.as_posix()}").stdout
    return set(file.read_text(encoding="utf-8").splitlines()) - set(old.splitlines())


def _checked(*words: str) -> None:
    if (done := _git(*words)).returncode:
        told = (done.stderr or done.stdout).strip()
        raise CrosstrainError(f"`git {' '.join(words[:1])}` failed: {told}")


def _git(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(["git"], 127, "", "git is not installed")
