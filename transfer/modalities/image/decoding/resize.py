"""Three ways to make an image square, by antialiased bicubic resampling.

An image that is already square and of the right size is left as it is.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

_RESAMPLING = Image.Resampling.BICUBIC


def crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to ``size`` pixels and keep the centre."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), _RESAMPLING, box=(left, top, left + side, top + side))


def stretch(image: Image.Image, size: int) -> Image.Image:
    """Resize both sides to ``size`` pixels; the ratio of width to height is lost."""
    return image.resize((size, size), _RESAMPLING)


def pad(image: Image.Image, size: int) -> Image.Image:
    """Resize the longer side to ``size`` pixels and fill up with the border's median colour."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    inner = image.resize((width, height), _RESAMPLING)
    square = Image.new(image.mode, (size, size), _border_colour(inner))
    square.paste(inner, ((size - width) // 2, (size - height) // 2))
    return square


def _border_colour(image: Image.Image) -> tuple[int, ...]:
    pixels = np.asarray(image).reshape(image.height, image.width, -1)  # H x W x C
    sides = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    return tuple(int(v) for v in np.median(np.concatenate(sides), axis=0))


FITS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "crop": crop,
    "pad": pad,
    "stretch": stretch,
}
