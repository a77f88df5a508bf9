"""Several backbones side by side, their features one after another.

Fusion of pretrained networks by concatenation, as of VGG and ResNet (after Ngiam et al., ICML
2011, and common practice since). Inputs are pixels in 0..1: each part standardises them its own
way.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from transfer.modalities.backbone import Backbone, Body
from transfer.modalities.normalisation import Normalisation
from transfer.models.network import make_backbone


class Part(Body):
    """One of the backbones; a list of these is the option of `build`."""

    normal: Normalisation
    """How this part's inputs are standardised."""


def as_pixels(channels: int) -> Normalisation:
    """The normalisation that leaves pixels in 0..1 as they are."""
    return Normalisation(mean=(0.0,) * channels, std=(1.0,) * channels)


class Fused(Backbone):
    """Features (N, D1 + D2 + ...) of all parts."""

    normal: Normalisation

    def __init__(self, channels: int, parts: Sequence[Part]) -> None:
        super().__init__()
        self.normal = as_pixels(channels)
        self.normals = [part.normal for part in parts]
        backbones = [make_backbone(Body(name=p.name, options=p.options), channels) for p in parts]
        self.parts = nn.ModuleList(backbones)
        self.chunk = min((backbone.chunk for backbone in backbones), default=self.chunk)
        self.sizes = [backbone.out_features for backbone in backbones]
        self.out_features = sum(self.sizes)

    def forward(self, images: Tensor) -> Tensor:
        each = zip(self.parts, self.normals, strict=True)
        return torch.cat([part(normal.apply(images)) for part, normal in each], dim=1)

    def stages(self) -> list[nn.Module]:
        """The parts: side by side, none is nearer to the input than another."""
        return list(self.parts)


def build(*, channels: int, parts: Sequence[dict[str, Any]] = ()) -> Backbone:
    """Make the network with fresh weights.

    Args:
        channels: of the pictures.
        parts: records of `Part`, as JSON values; without any, two small residual networks.
    """
    told = [Part.model_validate(part) for part in parts]
    return Fused(channels, told or _two_small(channels))


def _two_small(channels: int) -> list[Part]:
    normal = as_pixels(channels)
    return [
        Part(name="resnet", options={"width": 8, "pool": pool}, normal=normal)
        for pool in (True, False)
    ]
