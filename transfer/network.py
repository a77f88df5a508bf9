"""A network is a backbone and a head. Shapes: N images, C channels, H x W pixels, D features."""

from inspect import signature
from threading import Lock
from typing import Any

from pydantic import Field, field_validator
from torch import Tensor, nn, random

from transfer import backbones, registry
from transfer.normal import Normalisation
from transfer.section import Section

_DICE = Lock()


class Backbone(nn.Module):
    """Turns images (N, C, H, W) into features (N, D)."""

    normal: Normalisation | None = None
    """How its inputs must be standardised; None takes the statistics of the data."""
    chunk: int = 512
    """Images that pass at once where nothing is learned: fewer where pictures are enlarged."""
    out_features: int
    """D."""

    def stages(self) -> list[nn.Module]:
        """The parts from input to output, for learning rates that fall towards the input."""
        raise NotImplementedError


class Body(Section):
    """What `build` needs to make a backbone again; it stands in every model's card."""

    name: str
    """A file of transfer/backbones/."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of that file's ``build``: plain JSON values."""


class BackboneSettings(Section):
    """Which body is trained on the source and handed to the target."""

    name: str = "resnet"
    """A file of transfer/backbones/."""
    width: int = Field(16, ge=4, le=512)
    """Channels of the first layer; the last has eight times as many."""
    pool: bool = True
    """Halve the resolution after the first layer: faster; false keeps fine detail."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in (known := trainable()):
            raise ValueError(f"expected one of {', '.join(known)}")
        return name

    @property
    def body(self) -> Body:
        """The backbone's record."""
        return Body(name=self.name, options={"width": self.width, "pool": self.pool})


class Network(nn.Module):
    """Class scores of images: ``head(backbone(images))``."""

    def __init__(self, body: Body, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.body = body
        self.backbone = backbone
        self.head = nn.Linear(backbone.out_features, classes)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.backbone(images))
        return scores


def trainable() -> list[str]:
    """Backbones that are trained here, and so take a width; the others come with weights."""
    return [
        name
        for name in registry.names(backbones)
        if "width" in signature(registry.load(backbones, name).build).parameters
    ]


def build(body: Body, *, channels: int, classes: int, seed: int) -> Network:
    """Make a network with fresh weights; the same seed gives the same weights.

    Layers draw from torch's one global generator, so threads take turns.
    """
    with _DICE, random.fork_rng(devices=[]):
        random.manual_seed(seed)
        return Network(body, make_backbone(body, channels), classes)


def make_backbone(body: Body, channels: int) -> Backbone:
    """Make a backbone from its record, with weights drawn from torch's global generator."""
    backbone: Backbone = registry.load(backbones, body.name).build(
        channels=channels, **body.options
    )
    return backbone
