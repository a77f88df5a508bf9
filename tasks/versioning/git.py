"""Git operations on data.dvc: read an older version, and commit a new one."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from transfer.core.errors import CrosstrainError, DataRefusedError, SettingsError


def commit_of(revision: str) -> str:
    """The commit of a revision; '' if Git does not know the revision, or is not used here."""
    done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    return done.stdout.strip() if done.returncode == 0 else ""


def show(commit: str, file: Path) -> str:
    """The content of a file of the working folder in a commit.

    Raises:
        DataRefusedError: the commit does not contain the file.
    """
    done = _git("show", f"{commit}:./{file.as_posix()}")
    if done.returncode:
        raise DataRefusedError(
            f"there is no {file} in the revision {commit} ({done.stderr.strip()}); name one that "
            f"records data: `git log -- {file}`"
        )
    return done.stdout


def check(file: Path) -> None:
    """Make sure that a file can be committed, before anything is changed.

    Raises:
        SettingsError: there is no Git repository here, it ignores the file, no author is
            configured, or a merge or cherry-pick is in progress.
    """
    if _git("rev-parse", "--is-inside-work-tree").stdout.strip() != "true":
        raise SettingsError("there is no Git repository here to commit to; leave --commit out")
    if _git("check-ignore", "--quiet", file.as_posix()).returncode == 0:
        raise SettingsError(f"Git ignores {file}; take it out of .gitignore to commit it")
    if (done := _git("var", "GIT_COMMITTER_IDENT")).returncode:
        raise SettingsError(f"Git cannot commit: {done.stderr.strip()}")
    if commit_of("MERGE_HEAD") or commit_of("CHERRY_PICK_HEAD"):
        raise SettingsError(
            "a merge or a cherry-pick is in progress; finish it, or leave --commit out"
        )


def commit(files: Sequence[Path], message: str) -> str:
    """Commit the given files, and no other staged file; returns the commit.

    Raises:
        CrosstrainError: Git failed; the message contains its output.
    """
    names = [file.as_posix() for file in files]
    if _git("status", "--porcelain", "--", *names).stdout:
        _run_checked("add", "--", *names)
        _run_checked("commit", "--quiet", "--message", message, "--", *names)
    return commit_of("HEAD")


def added_lines(file: Path) -> set[str]:
    """Lines of a file that are not in its last commit; all lines if it was never committed."""
    if not file.is_file():
        return set()
    old = _git("show", f"HEAD:./{file.as_posix()}").stdout
    return set(file.read_text(encoding="utf-8").splitlines()) - set(old.splitlines())


def _run_checked(*words: str) -> None:
    if (done := _git(*words)).returncode:
        output = (done.stderr or done.stdout).strip()
        raise CrosstrainError(f"`git {' '.join(words[:1])}` failed: {output}")


def _git(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(["git"], 127, "", "git is not installed")
