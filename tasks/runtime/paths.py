"""The paths of a project, relative to its root, which is the working folder."""

import os
from pathlib import Path

from transfer.core.errors import SettingsError

PARAMS = Path("params.yaml")
DATA = Path("data")
DATA_DVC = Path("data.dvc")
BUILD = Path("build")
REPORTS = Path("reports")
MLRUNS = Path("mlruns")
QUARANTINE = Path("quarantine")
EXPORTS = Path("exports")


def folder(path: Path) -> Path:
    """The absolute path of an existing folder.

    Raises:
        SettingsError: the folder does not exist.
    """
    if not path.expanduser().is_dir():
        raise SettingsError(f"there is no folder {path}; expected the root of a project")
    return path.expanduser().resolve()


def enter_project() -> Path:
    """Make the project root the working folder: the nearest one upwards with a params.yaml.

    Raises:
        SettingsError: no such folder exists.
    """
    start = Path.cwd()
    for folder in (start, *start.parents):
        if (folder / PARAMS).is_file():
            os.chdir(folder)
            return folder
    raise SettingsError(
        f"neither {start} nor a folder above it holds {PARAMS}; run inside a crosstrain project, "
        "or make one with `crosstrain init DIR`"
    )
