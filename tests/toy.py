"""The toy modality of tests/plugins, made known as another installed package would be."""

from pathlib import Path

import numpy as np

PLUGINS = Path(__file__).with_name("plugins")
CLASSES = ("falling", "flat", "rising")
LENGTH = 8


def install(folder: Path) -> list[Path]:
    """Write the metadata of a package with the toy's entry point into a folder.

    Returns:
        The folders that have to be on the module path.
    """
    about = folder / "toy_modality-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-modality\nVersion: 1.0\n")
    points = "[crosstrain.modalities]\ntoy = toy_modality.modality\n"
    (about / "entry_points.txt").write_text(points)
    return [PLUGINS, folder]


def readings(n: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Readings (n, 8) float32, which fall, stay or rise with noise, and their classes (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    slope = (labels - 1)[:, None] * np.linspace(-1, 1, LENGTH)
    return (slope + shift + rng.normal(0, 0.3, (n, LENGTH))).astype(np.float32), labels


def write_folders(folder: Path, n: int, seed: int, shift: float = 0.0) -> list[Path]:
    """Write readings as CSV files in class folders."""
    values, labels = readings(n, seed, shift)
    paths = []
    for i, (row, label) in enumerate(zip(values, labels, strict=True)):
        path = folder / CLASSES[label] / f"{i:04d}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(",".join(str(float(value)) for value in row))
        paths.append(path)
    return paths


def write_npz(file: Path, n: int, seed: int) -> None:
    """Write readings as an .npz file."""
    values, labels = readings(n, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, readings=values, labels=labels, class_names=np.array(CLASSES))
