"""The version of the code that runs, and the Git revision of a project."""

import subprocess
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Where crosstrain's packages lie: its clone, or where it was installed."""


def code_revision(root: Path = ROOT) -> str:
    """The commit of crosstrain's clone, else its installed version, such as ``crosstrain 1.2.0``.

    A clone is the root of a Git repository; what merely lies in one, such as a virtual environment
    in a user's repository, is installed.
    """
    commit = git_revision(root) if (root / ".git").exists() else ""
    return commit or f"crosstrain {version('crosstrain')}"


def git_revision(folder: Path) -> str:
    """Git's commit, with ``-dirty`` for uncommitted changes; empty outside Git."""
    command = [
        "git",
        "-C",
        str(folder),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
