"""From any stored mode to upright, opaque, 8-bit grey or RGB."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from transfer.modalities.interface import Unreadable

GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_TURNS = {  # EXIF orientation to the operation that undoes it; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def eight_bit(image: Image.Image) -> Image.Image:
    """Give mode L for a grey mode, else RGB; transparent areas become white.

    16-bit grey is divided by 257. Floats within 0..1 are multiplied by 255, within 0..255 rounded.

    Raises:
        Unreadable: not_finite or out_of_range.
        ValueError: the mode cannot be turned into RGB.
    """
    if image.mode[0] in "IF":
        return Image.fromarray(_scaled(image))
    grey = image.mode in GREY
    target = "L" if grey else "RGB"
    if not image.has_transparency_data:
        return image.convert(target)
    layer = image.convert("LA" if grey else "RGBA")
    background = Image.new(target, image.size, "white")
    background.paste(layer.convert(target), mask=layer.getchannel("A"))
    return background


def _scaled(image: Image.Image) -> NDArray[np.uint8]:
    values: NDArray[Any] = np.asarray(image)
    if bad := int((~np.isfinite(values)).sum()):
        raise Unreadable("not_finite", f"{bad} pixels are NaN or infinite")
    real = image.mode == "F"
    low, high = values.min(), values.max()
    if low < 0 or high > (255 if real else 65535):
        expected = "0 to 1 or 0 to 255" if real else "0 to 65535"
        raise Unreadable("out_of_range", f"pixels from {low} to {high}; expected {expected}")
    if real:
        return np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8)
    grey = ((values.astype(np.int64) + 128) // 257).astype(np.uint8)
    grey[values == image.info.get("transparency", -1)] = 255
    return grey


def upright(pixels: Image.Image, stored: Image.Image) -> Image.Image:
    """Undo the rotation that the EXIF block of the image as stored announces."""
    try:
        turn = _TURNS.get(stored.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block does not make the pixels unusable
        return pixels
    return pixels if turn is None else pixels.transpose(turn)
