"""The classes of images for sections of the settings, except augmentation."""

from inspect import signature
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from transfer.core import plugins
from transfer.modalities.image.spec import ImageLimits
from transfer.modalities.interface import BackboneSettings, InputSettings, Thresholds

BACKBONES = plugins.Kind("transfer.modalities.image.backbones", "crosstrain.backbones")
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB")
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "array")


class ImageSettings(InputSettings):
    """What every image is converted to."""

    modality: Literal["image"] = "image"
    """The kind of input."""
    size: int = Field(28, ge=8, le=512)
    """Side in pixels."""
    channels: Literal["auto", 1, 3] = "auto"
    """1 grey, 3 colour, auto: colour when either dataset has a colour image."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How an image that is not square becomes square."""
    pretrained_size: int = Field(128, ge=32, le=1024)
    """Side in pixels to which networks of `pretrained` resize images: they were trained at 224 or
    more, and the time grows with its square."""
    limits: ImageLimits = ImageLimits()
    """Files beyond these are rejected before they are decoded."""


class ImageThresholds(Thresholds):
    """What an image must fulfil to be used for training. A share is a fraction, 0 to 1."""

    min_side: int = Field(4, ge=1)
    """Shortest width or height of an image, pixels."""
    max_side: int = Field(10_000, ge=1)
    """Longest width or height of an image, pixels."""
    modes: tuple[str, ...] = MODES + DEEP_MODES
    """Pixel modes that are accepted, as Pillow names them."""
    formats: tuple[str, ...] = FORMATS
    """File formats that are accepted, as Pillow names them; `array` is a row of an .npz file."""
    min_std: float = Field(1.0, ge=0, le=127.5)
    """An image whose grey levels (0-255) have a smaller standard deviation counts as empty."""
    max_empty_share: float = Field(0.01, ge=0, le=1)
    """Largest share of empty images."""
    near_duplicate_rms: float = Field(0.02, ge=0, le=1)
    """Images whose 16 x 16 thumbnails differ by at most this root mean square, of a grey scale
    from 0 to 1, are near-duplicates."""

    @model_validator(mode="after")
    def _keep_order_of_sides(self) -> Self:
        if self.min_side > self.max_side:
            raise ValueError(f"min_side is {self.min_side}, above max_side, {self.max_side}")
        return self


class ImageBackboneSettings(BackboneSettings):
    """Which backbone is trained on the source and transferred to the target."""

    name: str = "resnet"
    """A file of transfer/modalities/image/backbones/."""
    width: int = Field(16, ge=4, le=512)
    """Channels of the first layer; the last has eight times as many."""
    pool: bool = True
    """Halve the resolution after the first layer: faster; false keeps fine detail."""

    @field_validator("name")
    @classmethod
    def _is_trainable(cls, name: str) -> str:
        if name not in (names := trainable()):
            raise ValueError(f"expected one of {', '.join(names)}")
        return name


def trainable() -> list[str]:
    """Backbones that are trained here, which take a width; the others come with weights."""
    return [
        name
        for name in plugins.names(BACKBONES)
        if "width" in signature(plugins.attribute(BACKBONES, name, "build")).parameters
    ]
