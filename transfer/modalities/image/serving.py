"""Images in requests to a served model."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer.modalities.interface import Payload
from transfer.modalities.payload import content, is_one_array, items_of

COLUMN = "image"
EXPECTED = "image files as base64, bytes or pathlib.Path, or uint8 arrays"


def unpack(request: object) -> Payload:
    """The images of a request: one uint8 array, or a list of arrays, bytes or paths.

    Args:
        request: a frame with a column ``image``, a series or a list, of the base64 text or the
            bytes of image files, of ``pathlib.Path``, or of arrays; or one array (N, H, W),
            (N, H, W, C), or of a single image (H, W), (H, W, C) with 1, 3 or 4 channels. Whole
            numbers of 0 to 255 are taken for uint8.

    Raises:
        ValueError: the request is none of these.
    """
    items = items_of(request, COLUMN, EXPECTED)
    if isinstance(items, np.ndarray):
        return _pixels(_batch(items))
    if not items:
        raise ValueError("found no images; expected at least one")
    if is_one_array(items):
        return _pixels(_batch(_one_array(items)))
    if isinstance(items[0], np.ndarray | list | tuple):
        return [_pixels(np.asarray(item)) for item in items]
    if all(isinstance(item, Path) for item in items):
        return items
    return [content(item, row) for row, item in enumerate(items)]


def _one_array(images: list[Any]) -> NDArray[Any]:
    try:
        return np.asarray(images)
    except ValueError as error:
        raise ValueError(
            "found rows or images of several sizes in one array; send images of several sizes "
            f"as a column {COLUMN!r} of arrays, such as dataframe_split"
        ) from error


def _batch(images: NDArray[Any]) -> NDArray[Any]:
    """Images (N, H, W) or (N, H, W, C) of one image or a batch."""
    single = images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3, 4))
    return images[None] if single else images


def _pixels(images: NDArray[Any]) -> NDArray[np.uint8]:
    if not images.size:
        raise ValueError(f"found no images in an array of shape {images.shape}")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iu" or images.min() < 0 or images.max() > 255:
        raise ValueError(f"found an array of {images.dtype}; expected whole numbers of 0 to 255")
    return images.astype(np.uint8)
