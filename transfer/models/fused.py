"""Several backbones of one modality side by side, their features one after another.

Fusion of pretrained networks by concatenation, as of VGG and ResNet (after Ngiam et al., ICML
2011, and common practice since). Inputs come as the modality scales them, without
standardisation: each part standardises them its own way. Shapes: N items, D features.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from transfer.modalities.backbone import Backbone, BackboneSpec
from transfer.modalities.interface import InputSpec
from transfer.modalities.normalisation import Normalisation
from transfer.models.network import make_backbone


class Part(BackboneSpec):
    """One of the backbones; a list of these is the option of `build`."""

    normal: Normalisation
    """How this part's inputs are standardised."""


class Fused(Backbone):
    """Features (N, D1 + D2 + ...) of all parts."""

    normal: Normalisation

    def __init__(self, spec: InputSpec, parts: Sequence[Part]) -> None:
        super().__init__()
        self.normal = Normalisation.none()
        self.normals = [part.normal for part in parts]
        backbones = [
            make_backbone(BackboneSpec(name=p.name, options=p.options), spec) for p in parts
        ]
        self.parts = nn.ModuleList(backbones)
        self.chunk = min((backbone.chunk for backbone in backbones), default=self.chunk)
        self.sizes = [backbone.out_features for backbone in backbones]
        self.out_features = sum(self.sizes)

    def forward(self, inputs: Tensor) -> Tensor:
        each = zip(self.parts, self.normals, strict=True)
        return torch.cat([part(normal.apply(inputs)) for part, normal in each], dim=1)

    def stages(self) -> list[nn.Module]:
        """The parts: side by side, none is nearer to the input than another."""
        return list(self.parts)


def build(*, spec: InputSpec, parts: Sequence[dict[str, Any]]) -> Backbone:
    """Make the network with fresh weights.

    Args:
        spec: of the items.
        parts: records of `Part`, as JSON values.
    """
    return Fused(spec, [Part.model_validate(part) for part in parts])
