"""The manifest's columns of an image, and what validation expects of them."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from transfer.modalities.image.decoding.decode import DecodedImage
from transfer.modalities.image.settings import ImageThresholds
from transfer.modalities.interface import ColumnRule

COLUMNS = {
    "width": "int64",  # pixels, after EXIF rotation
    "height": "int64",
    "mode": "str",  # as stored: L, RGB, RGBA, P, I;16, CMYK...
    "mean": "float64",  # of the grey image, 0-255
    "std": "float64",  # of the grey image, 0-255; 0 is a constant image
}


def describe(decoded: DecodedImage) -> dict[str, Any]:
    """The manifest's columns of an image; ``content`` hashes its RGB pixels and their size."""
    mean, std = _light(decoded.image)
    return {
        "content": _pixel_hash(decoded.image),
        "format": decoded.format,
        "width": decoded.image.width,
        "height": decoded.image.height,
        "mode": decoded.mode,
        "mean": mean,
        "std": std,
    }


def _pixel_hash(image: Image.Image) -> str:
    content = f"{image.width}x{image.height}".encode() + image.convert("RGB").tobytes()
    return hashlib.sha256(content).hexdigest()


def _light(image: Image.Image) -> tuple[float, float]:
    counts = np.array(image.convert("L").histogram(), dtype=np.float64)
    levels, n = np.arange(256), counts.sum()
    mean = float(levels @ counts / n)
    return mean, float(np.sqrt((levels - mean) ** 2 @ counts / n))


def rules(thresholds: ImageThresholds) -> Iterator[ColumnRule]:
    """What validation expects of the columns."""
    for side in ("width", "height"):
        low, high = thresholds.min_side, thresholds.max_side
        extreme, bounds = f"no {side} is extreme", "min_side, max_side"
        yield ColumnRule(extreme, side, low, high, setting=bounds, unit=" pixels")
    yield ColumnRule("pixel modes are accepted", "mode", among=thresholds.modes, setting="modes")
    accepted = "file formats are accepted"
    yield ColumnRule(accepted, "format", among=thresholds.formats, setting="formats")
    full = f"images are not empty (std of grey at least {thresholds.min_std:g})"
    yield ColumnRule(full, "std", low=thresholds.min_std, tolerated="max_empty_share")


def fault(row: Mapping[str, Any], thresholds: ImageThresholds) -> tuple[str, str] | None:
    """Reason and detail for which training would refuse an image of new data, or None."""
    sides = (row["width"], row["height"])
    size = f"{sides[0]} x {sides[1]} pixels"
    if min(sides) < thresholds.min_side:
        return "too_small", f"{size}; validate.min_side is {thresholds.min_side}"
    if max(sides) > thresholds.max_side:
        return "too_large", f"{size}; validate.max_side is {thresholds.max_side}"
    if row["mode"] not in thresholds.modes:
        return "wrong_mode", f"{row['mode']}; expected one of {', '.join(thresholds.modes)}"
    if row["format"] not in thresholds.formats:
        return "wrong_format", f"{row['format']}; expected one of {', '.join(thresholds.formats)}"
    if row["std"] < thresholds.min_std:
        least = f"{thresholds.min_std:g} (validate.min_std)"
        return "blank", f"its grey levels deviate by {row['std']:.2f}; expected at least {least}"
    return None
