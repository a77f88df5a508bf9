"""Several backbones of one modality in parallel, with concatenated features.

Fusion of pretrained networks by concatenation, such as VGG and ResNet (after Ngiam et al., ICML
2011, and common practice since). Inputs are as the modality scales them, without standardisation:
each part standardises them with its own statistics. Shapes: N items, D features.
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
    """One of the backbones; the option of `build` is a list of parts."""

    normal: Normalisation
    """How the inputs of this part are standardised."""


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
        pairs = zip(self.parts, self.normals, strict=True)
        return torch.cat([part(normal.apply(inputs)) for part, normal in pairs], dim=1)

    def stages(self) -> list[nn.Module]:
        """The parts; all have the same distance from the input."""
        return list(self.parts)


def build(*, spec: InputSpec, parts: Sequence[dict[str, Any]]) -> Backbone:
    """Make the network with random weights.

    Args:
        spec: of the items.
        parts: records of `Part`, as JSON values.
    """
    return Fused(spec, [Part.model_validate(part) for part in parts])
