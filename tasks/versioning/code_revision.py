"""The Git revision of the code that runs."""

import subprocess


def code_revision() -> str:
    """Git's commit, with ``-dirty`` for uncommitted changes; ``unversioned`` outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unversioned"
    return done.stdout.strip() or "unversioned"
