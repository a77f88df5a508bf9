"""The name of a dataset, available without importing the code that the settings configure."""

from pathlib import Path

TARGET_PATH = Path("data/target")
"""Default path of the target."""
_FILES = (".csv", ".parquet", ".npz")


def dataset_name(path: Path, name: str = "") -> str:
    """A dataset's given name, else the name of its folder, or of its file without suffix."""
    return name or (path.stem if path.suffix.lower() in _FILES else path.name)
