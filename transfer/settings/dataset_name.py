"""The name of a dataset, found without importing what the settings configure."""

from pathlib import Path

TARGET_PATH = Path("data/target")
"""Where the target is unless params.yaml says otherwise."""
_FILES = (".csv", ".parquet", ".npz")


def dataset_name(path: Path, name: str = "") -> str:
    """The name that a dataset was given, else that of its folder, or of its file without suffix."""
    return name or (path.stem if path.suffix.lower() in _FILES else path.name)
