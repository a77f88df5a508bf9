"""What a picture must become, what it may cost, and why one was not read."""

from typing import Literal

from pydantic import Field

from transfer.core.config import Section
from transfer.core.errors import DataRefusedError


class ImageSpec(Section):
    """What every picture is turned into before a network sees it."""

    size: int = Field(ge=8, le=512)
    """Side of the square picture, pixels."""
    channels: Literal[1, 3]
    """1 for grey, 3 for RGB."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How a picture becomes square: crop its centre, pad it in its border's colour, or stretch."""


class ImageLimits(Section):
    """What a file may cost; checked before its pixels are decoded."""

    max_bytes: int = Field(50 * 2**20, ge=1)
    """Largest image file, bytes."""
    max_pixels: int = Field(50_000_000, ge=1, le=178_956_970)
    """Most pixels, width x height, that a header may announce; the decoder's own limit is 178 M."""
    min_side: int = Field(1, ge=1)
    """Shortest side of a picture, pixels."""
    max_array_bytes: int = Field(4 * 2**30, ge=1)
    """Largest .npz file once unpacked, bytes."""


class Unreadable(DataRefusedError):  # noqa: N818 (a fact about one item, and seldom the run's end)
    """One item cannot be used.

    ``reason`` is a stable code. From the contents: empty, too_large, too_many_pixels, too_small,
    wrong_type, truncated, not_finite, out_of_range, unreadable. From the file: permission,
    missing, symlink.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason} ({detail})")
        self.reason, self.detail = reason, detail
