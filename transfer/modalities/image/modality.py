"""The modality of images: the object through which the rest of the project uses images."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transfer.core import plugins
from transfer.core.errors import DataRefusedError
from transfer.modalities.backbone import Backbone, BackboneSpec
from transfer.modalities.image import augment, export, quality, serving, show, tensors
from transfer.modalities.image.decoding import decode
from transfer.modalities.image.decoding.decode import DecodedImage
from transfer.modalities.image.networks import pretrained
from transfer.modalities.image.settings import (
    BACKBONES,
    ImageBackboneSettings,
    ImageSettings,
    ImageThresholds,
    trainable,
)
from transfer.modalities.image.spec import ImageLimits, ImageSpec
from transfer.modalities.interface import (
    Array,
    ColumnRule,
    Contents,
    Layout,
    Modality,
    Nouns,
    Payload,
    Pretrained,
    Strength,
    UnexpectedArrayError,
    Unreadable,
)
from transfer.modalities.normalisation import Normalisation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRONG: Mapping[Strength, Mapping[str, float]] = {
    "strong": {
        "rotate": 20,
        "scale": 0.2,
        "stretch": 0.15,
        "translate": 0.12,
        "shear": 12,
        "contrast": 0.3,
        "cutout": 0.3,
    },
    "stronger": {
        "rotate": 30,
        "scale": 0.3,
        "stretch": 0.2,
        "translate": 0.15,
        "shear": 20,
        "brightness": 0.2,
        "contrast": 0.4,
        "cutout": 0.4,
    },
}


class ImageModality(Modality):
    """Images: a record is (C, S, S) uint8."""

    name = "image"
    nouns = Nouns("image", "images")
    suffixes = decode.SUFFIXES
    array_key = "images"
    column = serving.COLUMN
    packages = ("pillow",)
    columns = quality.COLUMNS
    settings = ImageSettings
    spec = ImageSpec
    limits = ImageLimits
    augmentation = augment.AugmentPolicy
    thresholds = ImageThresholds
    backbone = ImageBackboneSettings
    backbone_plugins = BACKBONES
    pretrain_augmentation = augment.AugmentPolicy(
        rotate=20, scale=0.6, stretch=0.3, shear=15, resolution=0.25
    )
    summary_names = tensors.SUMMARY

    def specify(self, settings: Any, datasets: Sequence[Contents]) -> ImageSpec:
        """Where the number of channels is open: colour when any dataset has a colour image."""
        channels = settings.channels
        if channels == "auto":
            channels = 3 if any(_has_colour(contents) for contents in datasets) else 1
        return ImageSpec(size=settings.size, channels=channels, fit=settings.fit)

    def decode(self, data: bytes, limits: ImageLimits) -> DecodedImage:
        return decode.decode(data, limits)

    def from_array(self, array: Array) -> DecodedImage:
        return decode.from_pixels(array)

    def check_array(self, array: Array, limits: ImageLimits) -> None:
        shaped = array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3, 4))
        if array.dtype != np.uint8 or not shaped:
            nan = int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0
            nan_note = f" with {nan} NaN" if nan else ""
            expected = "uint8 from 0 to 255, N x H x W or N x H x W x 1, 3 or 4"
            raise UnexpectedArrayError(f"is {array.dtype} {array.shape}{nan_note}", expected)
        try:
            decode.check_size(array.shape[2], array.shape[1], limits)
        except Unreadable as error:
            raise UnexpectedArrayError(f"is {array.shape}", error.detail) from error

    def describe(self, sample: DecodedImage) -> dict[str, Any]:
        return quality.describe(sample)

    def effort(self, sample: DecodedImage) -> int:
        return sample.image.width * sample.image.height

    def layout(self, spec: ImageSpec) -> Layout:
        return Layout((spec.channels, spec.size, spec.size), "uint8")

    def record(self, sample: DecodedImage, spec: ImageSpec) -> Array:
        return decode.to_tensor(sample, spec)

    def statistics(self, parts: Iterable[Tensor], spec: ImageSpec) -> Normalisation:
        return tensors.statistics(parts, spec.channels)

    def scale(self, records: Tensor, spec: ImageSpec) -> Tensor:
        del spec
        return tensors.scale(records)

    def augment(self, batch: Tensor, policy: Any, generator: torch.Generator) -> Tensor:
        return augment.augment(batch, policy, generator)

    def mix(
        self, batch: Tensor, targets: Tensor, policy: Any, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return augment.mix(batch, targets, policy, generator)

    def unscale(self, batch: Tensor, spec: ImageSpec) -> Tensor:
        del spec
        return batch.mul(255).round().to(torch.uint8)

    def strong(self, level: Strength) -> Mapping[str, Any]:
        return STRONG[level]

    def lay_out(self, inputs: Tensor) -> Tensor:
        return inputs.contiguous(memory_format=torch.channels_last)

    def lay_out_network(self, network: nn.Module) -> nn.Module:
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def backbones(self) -> list[str]:
        return plugins.names(BACKBONES)

    def trainable(self) -> list[str]:
        return trainable()

    def backbone_module(self, name: str) -> str:
        return plugins.module_name(BACKBONES, name)

    def build_backbone(self, backbone_spec: BackboneSpec, spec: ImageSpec) -> Backbone:
        make = plugins.attribute(BACKBONES, backbone_spec.name, "build")
        backbone: Backbone = make(channels=spec.channels, **backbone_spec.options)
        return backbone

    def available(self) -> dict[str, str | None]:
        return pretrained.available()

    def pretrained(self, name: str, spec: ImageSpec, settings: ImageSettings) -> Pretrained:
        return pretrained.pretrained(name, spec.channels, settings.pretrained_size)

    def pretrained_options(self, settings: ImageSettings) -> dict[str, Any]:
        return {"size": settings.pretrained_size}

    def exportable(self, backbone: Backbone, spec: ImageSpec) -> Backbone:
        return export.exportable(backbone, spec.size)

    def rules(self, thresholds: ImageThresholds) -> Sequence[ColumnRule]:
        return tuple(quality.rules(thresholds))

    def fault(self, row: Mapping[str, Any], thresholds: ImageThresholds) -> tuple[str, str] | None:
        return quality.fault(row, thresholds)

    def fingerprint(self, records: Array) -> NDArray[np.float32]:
        return tensors.thumbnails(records)

    def summary(self, records: Tensor) -> NDArray[np.float32]:
        return tensors.light(records)

    def show(
        self, axes: "Axes", cells: Sequence[Sequence[Array]], columns: int, *, lead: bool = False
    ) -> None:
        show.mosaic(axes, cells, columns, lead=lead)

    def unpack(self, request: object) -> Payload:
        return serving.unpack(request)

    def check_batch(self, array: Array) -> None:
        if array.dtype != np.uint8 or array.ndim not in (3, 4):
            raise DataRefusedError(
                f"found an array of {array.dtype} with {array.ndim} dimensions; expected uint8 "
                "of shape (N, H, W) or (N, H, W, channels)"
            )

    def blank(self, spec: ImageSpec) -> Array:
        return np.zeros((1, spec.size, spec.size), np.uint8)


def _has_colour(contents: Contents) -> bool:
    if contents.array is not None:
        shape, _ = contents.array
        return len(shape) == 4 and shape[3] >= 3
    return any(decode.stored_in_colour(path) for path in contents.files())


MODALITY = ImageModality()
