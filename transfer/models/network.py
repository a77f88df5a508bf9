"""Networks, each a backbone and a head. Shapes: N items, K classes, D features."""

from importlib import import_module

from torch import Tensor, nn

from transfer.modalities import lookup
from transfer.modalities.backbone import Backbone, BackboneSpec, seeded
from transfer.modalities.interface import InputSpec

COMBINED = {"fused": "transfer.models.fused"}
"""Backbones that combine backbones of any modality, and the module of each."""


class Network(nn.Module):
    """Class scores (N, K) of a batch of inputs: ``head(backbone(inputs))``."""

    def __init__(self, backbone_spec: BackboneSpec, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone_spec = backbone_spec
        self.backbone = backbone
        self.head = nn.Linear(backbone.out_features, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.head(self.backbone(inputs))
        return scores


def backbones(modality: str) -> list[str]:
    """Keys of all backbones of a modality, sorted."""
    return sorted([*COMBINED, *lookup.get(modality).backbones()])


def backbone_module(name: str, modality: str) -> str:
    """Full name of the module that makes a backbone.

    Raises:
        SettingsError: the modality has no such backbone.
    """
    return COMBINED.get(name) or lookup.get(modality).backbone_module(name)


def backbone_modules(modality: str, *backbone_specs: BackboneSpec) -> list[str]:
    """Modules of a modality, of backbones and of their parts. They are loaded by name, so no import
    statement leads to them, and a cache key has to name them.

    Raises:
        SettingsError: the modality has no backbone of such a name.
    """
    modules = {backbone_module(name, modality) for name in backbone_names(*backbone_specs)}
    return [lookup.code(modality), *sorted(modules)]


def backbone_names(*backbone_specs: BackboneSpec) -> set[str]:
    """Names of backbones, and of the parts of those that are fused."""
    parts = [
        part["name"]
        for backbone_spec in backbone_specs
        for part in backbone_spec.options.get("parts", ())
    ]
    return {backbone_spec.name for backbone_spec in backbone_specs} | set(parts)


def build(backbone_spec: BackboneSpec, *, spec: InputSpec, classes: int, seed: int) -> Network:
    """Make a network with random weights; the same seed gives the same weights.

    Args:
        backbone_spec: the backbone's record.
        spec: of the network's input items.
        classes: K.
        seed: of the weights.
    """
    with seeded(seed):
        return Network(backbone_spec, make_backbone(backbone_spec, spec), classes)


def make_backbone(backbone_spec: BackboneSpec, spec: InputSpec) -> Backbone:
    """Make a backbone from its record, with weights drawn from torch's global generator.

    Raises:
        SettingsError: the modality has no such backbone.
        TypeError: it takes no such option.
    """
    if backbone_spec.name in COMBINED:
        module = import_module(COMBINED[backbone_spec.name])
        combined: Backbone = module.build(spec=spec, **backbone_spec.options)
        return combined
    return lookup.of(spec).build_backbone(backbone_spec, spec)
