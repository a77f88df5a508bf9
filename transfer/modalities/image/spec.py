"""What an image is converted to, and the largest size that is accepted."""

from typing import Literal

from pydantic import Field

from transfer.modalities.interface import InputLimits, InputSpec


class ImageSpec(InputSpec):
    """What every image is converted to before a network receives it."""

    modality: Literal["image"] = "image"
    """Name of the modality."""
    size: int = Field(ge=8, le=512)
    """Side of the square image, pixels."""
    channels: Literal[1, 3]
    """1 for grey, 3 for RGB."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How an image becomes square: crop its centre, pad it in its border's colour, or stretch."""


class ImageLimits(InputLimits):
    """Limits of a file, checked before its pixels are decoded."""

    max_bytes: int = Field(50 * 2**20, ge=1)
    """Largest image file, bytes."""
    max_pixels: int = Field(50_000_000, ge=1, le=178_956_970)
    """Most pixels, width x height, that a header may announce; the decoder's own limit is 178 M."""
    min_side: int = Field(1, ge=1)
    """Shortest side of an image, pixels."""
    max_array_bytes: int = Field(4 * 2**30, ge=1)
    """Largest .npz file once unpacked, bytes."""
