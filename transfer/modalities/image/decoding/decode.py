"""Image files and arrays to uint8 tensors of one size: training and prediction both decode here.

Shapes: C channels (1 or 3), H x W pixels. Colour profiles are not applied.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from transfer.modalities.image.decoding.colour import GREY, eight_bit, upright
from transfer.modalities.image.decoding.resize import FITS
from transfer.modalities.image.spec import ImageLimits, ImageSpec
from transfer.modalities.interface import Unreadable

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_MAGIC = (b"\x89PNG", b"\xff\xd8", b"BM", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image, upright and opaque, at its own size."""

    image: Image.Image  # mode L or RGB
    mode: str  # as stored: L, RGB, RGBA, P, I;16, CMYK...
    format: str  # as stored: PNG, JPEG... or 'array'


def decode(data: bytes, limits: ImageLimits) -> DecodedImage:
    """Decode the contents of a PNG, JPEG, BMP, GIF, WebP or TIFF file; the first frame of many.

    EXIF orientation is applied. Grey modes give L, all others RGB; see `colour.eight_bit`.

    Raises:
        Unreadable: the data are empty, too large, no image, damaged or cut short; the header
            announces too many pixels or too short a side; or the pixels cannot be converted to
            8-bit grey.
    """
    if not data:
        raise Unreadable("empty", "0 bytes")
    if len(data) > limits.max_bytes:
        raise too_large(len(data), limits)
    try:
        with _quiet(), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            check_size(image.width, image.height, limits)
            mode, form = image.mode, str(image.format)
            image.load()
            return DecodedImage(upright(eight_bit(image), image), mode, form)
    except Unreadable:
        raise
    except Exception as error:  # a damaged file can make a parser raise any error
        raise _explain(error, data) from error


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def too_large(size: int, limits: ImageLimits) -> Unreadable:
    """The error of a file that has more bytes than allowed."""
    return Unreadable("too_large", f"{size} bytes; at most {limits.max_bytes} are allowed")


def check_size(width: int, height: int, limits: ImageLimits) -> None:
    """Check what a header announces.

    Raises:
        Unreadable: too_many_pixels or too_small.
    """
    if width * height > limits.max_pixels:
        allowed = f"at most {limits.max_pixels} are allowed"
        raise Unreadable("too_many_pixels", f"{width} x {height} pixels; {allowed}")
    if min(width, height) < limits.min_side:
        needed = f"a side needs {limits.min_side}"
        raise Unreadable("too_small", f"{width} x {height} pixels; {needed}")


def _explain(error: Exception, data: bytes) -> Unreadable:
    if isinstance(error, Image.DecompressionBombError):
        return Unreadable("too_many_pixels", str(error))
    if not data.startswith(_MAGIC):
        return Unreadable("wrong_type", f"the contents are not {', '.join(_FORMATS)}")
    if "truncated" in str(error).lower() or isinstance(error, EOFError) or _cut_short(data):
        return Unreadable("truncated", f"the data end early, after {len(data)} bytes")
    if isinstance(error, UnidentifiedImageError):
        return Unreadable("unreadable", "its header is damaged")
    return Unreadable("unreadable", f"{type(error).__name__}: {error}")


def _cut_short(data: bytes) -> bool:
    if data.startswith(b"RIFF"):
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big") >= len(data)
    return False


def stored_in_colour(path: Path) -> bool:
    """Whether a file's pixels are stored in colour, by its header; False if it has no readable
    header."""
    try:
        with _quiet(), Image.open(path, formats=_FORMATS) as image:
            return image.mode not in GREY
    except Exception:  # as in `decode`
        return False


def from_pixels(array: NDArray[Any]) -> DecodedImage:
    """Wrap pixels as an image; the fourth channel is opacity.

    Args:
        array: (H, W) or (H, W, 1, 3 or 4) uint8.

    Raises:
        Unreadable: the array has another type or shape, or no pixels.
    """
    array = np.asarray(array)
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        expected = "expected uint8, H x W or H x W x 1, 3 or 4"
        raise Unreadable("wrong_type", f"{array.dtype} of shape {array.shape}; {expected}")
    if not array.size:
        raise Unreadable("empty", f"an array of shape {array.shape} has no pixels")
    flat = array[..., 0] if array.shape[2:] == (1,) else array
    image = Image.fromarray(np.ascontiguousarray(flat))
    return DecodedImage(eight_bit(image), image.mode, "array")


def from_array(array: NDArray[Any], spec: ImageSpec) -> NDArray[np.uint8]:
    """Fit pixels to the spec: `to_tensor` of `from_pixels`."""
    return to_tensor(from_pixels(array), spec)


def to_tensor(decoded: DecodedImage, spec: ImageSpec) -> NDArray[np.uint8]:
    """Fit an image to the spec.

    Grey to RGB repeats the channel; RGB to grey is 0.299 R + 0.587 G + 0.114 B (ITU-R 601).

    Returns:
        (C, size, size) uint8.
    """
    image = decoded.image.convert("L") if spec.channels == 1 else decoded.image
    fitted = FITS[spec.fit](image, spec.size).convert("L" if spec.channels == 1 else "RGB")
    pixels = np.asarray(fitted).reshape(spec.size, spec.size, spec.channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
