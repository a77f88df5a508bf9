"""Creates a new project: a folder with settings and the files of DVC and Prefect, in Git.

The files come from the folder `template`, in which a leading underscore stands for a leading dot:
real dot files would make the template itself a DVC repository.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tasks.runtime.paths import PARAMS
from transfer.core.atomic_files import write_atomic
from transfer.core.errors import SettingsError

TEMPLATE = Path(__file__).with_name("template")
DVC_CONFIG = Path(".dvc/config")
NO_SCM = b"    no_scm = true\n"
"""Line of DVC's configuration in a project without Git, after the section [core]."""


def create(folder: Path, *, git: bool = True) -> list[Path]:
    """Make a folder a project. Existing files in it, such as data, are not changed.

    params.yaml, which marks a project, is written last: if this function is killed, run it again.
    Outside any Git repository, the folder becomes one; inside a repository, it becomes part of it.

    Args:
        folder: the project's root; made where it does not exist.
        git: whether to use Git; where it is not installed, it is not used.

    Returns:
        Paths of the project's files, relative to the folder.

    Raises:
        SettingsError: a file of the project exists with another content (nothing is changed), the
            folder is already a project, or it cannot be written to.
    """
    try:
        scm = git and _git(Path(), "--version")
        inside = scm and _has_git(folder)
        files = contents(scm=scm)
        _check(folder, files)
        folder.mkdir(parents=True, exist_ok=True)
        if scm and not inside and not _git(folder, "init", "--quiet"):
            raise SettingsError(f"`git init` failed in {folder}; repair Git, or add --no-git")
        for name, content in files.items():
            _remove_unfinished(folder / name)
            write_atomic(folder / name, content)
    except OSError as error:
        raise SettingsError(
            f"cannot make a project in {folder}: {error.filename or folder}: {error.strerror}"
        ) from error
    return [*files]


def contents(*, scm: bool = True) -> Mapping[Path, bytes]:
    """Content of each file of a new project by its path, params.yaml last.

    Args:
        scm: whether the project is in a Git repository.
    """
    template_files = sorted(path for path in TEMPLATE.rglob("*") if path.is_file())
    files = {_name(path): path.read_bytes() for path in template_files}
    if not scm:
        files[DVC_CONFIG] = files[DVC_CONFIG].replace(b"[core]\n", b"[core]\n" + NO_SCM, 1)
    marker = files.pop(PARAMS)
    return {**files, PARAMS: marker}


def _name(path: Path) -> Path:
    parts = path.relative_to(TEMPLATE).parts
    return Path(*(f".{part[1:]}" if part.startswith("_") else part for part in parts))


def _check(folder: Path, files: Mapping[Path, bytes]) -> None:
    if folder.is_file():
        raise SettingsError(f"{folder} is a file; expected a folder, or a name not in use")
    if (folder / PARAMS).exists():
        raise SettingsError(f"{folder} is already a project: it contains {PARAMS}")
    parents = {parent for name in files for parent in name.parents}
    blocked = [parent for parent in parents if (folder / parent).is_file()]
    different = [name for name, content in files.items() if _differs(folder / name, content)]
    if conflicts := sorted(str(name) for name in {*blocked, *different}):
        raise SettingsError(
            f"{folder} has files that a new project would overwrite: {', '.join(conflicts)}; move "
            f"them away, or name a new folder, such as {folder / 'model'}. Nothing was changed"
        )


def _differs(path: Path, content: bytes) -> bool:
    if not os.path.lexists(path):
        return False
    return not path.is_file() or path.read_bytes() != content


def _remove_unfinished(path: Path) -> None:
    """Remove temporary files that a killed write of a file has left."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink()


def _has_git(folder: Path) -> bool:
    """Whether a folder, which need not exist, is in a Git repository."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return _git(existing, "rev-parse", "--is-inside-work-tree")


def _git(folder: Path, *words: str) -> bool:
    try:
        done = subprocess.run(["git", "-C", folder, *words], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0
