"""The project in which a call works."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from tasks.runtime import environment, paths


def init(folder: str | PathLike[str]) -> Path:
    """Make a project: a folder with settings, stages, a registry and what DVC needs.

    Args:
        folder: created if it does not exist. Existing files are not changed.

    Returns:
        The project's root, absolute.

    Raises:
        SettingsError: a file of a project exists already, or the folder cannot be written.
    """
    from tasks.versioning import new_project

    place = Path(folder).expanduser()
    new_project.create(place)
    return place.resolve()


@contextmanager
def working_in(project: str | PathLike[str] | None) -> Iterator[Path]:
    """Make a project the working folder, as every part of the chain expects, and restore it at
    the end.

    The working folder belongs to the whole process: other threads must not use it at the same time.

    Args:
        project: the root of a project, or a folder in it; None takes the working folder.

    Yields:
        The project's root, absolute.

    Raises:
        SettingsError: neither the folder nor one above it is a project.
    """
    before = Path.cwd()
    try:
        if project is not None:
            os.chdir(paths.folder(Path(project)))
        root = paths.enter_project()
        environment.prepare(root)
        yield root
    finally:
        os.chdir(before)
