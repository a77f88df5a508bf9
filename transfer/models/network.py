"""A network is a backbone and a head. Shapes: N images, C channels, H x W pixels, D features."""

from inspect import signature
from threading import Lock

from pydantic import Field, field_validator
from torch import Tensor, nn, random

from transfer.core import plugins
from transfer.core.config import Section
from transfer.modalities.backbone import Backbone, Body

BACKBONES = plugins.Kind("transfer.modalities.image.backbones", "crosstrain.backbones")
_DICE = Lock()


class BackboneSettings(Section):
    """Which body is trained on the source and handed to the target."""

    name: str = "resnet"
    """A file of transfer/modalities/image/backbones/."""
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
        for name in plugins.names(BACKBONES)
        if "width" in signature(plugins.attribute(BACKBONES, name, "build")).parameters
    ]


def backbone_modules(*bodies: Body) -> list[str]:
    """Modules of backbones and of their parts, sorted: they are loaded by name, so no import leads
    to them.

    Raises:
        SettingsError: there is no backbone of such a name.
    """
    return sorted({plugins.module_name(BACKBONES, name) for name in backbone_names(*bodies)})


def backbone_names(*bodies: Body) -> set[str]:
    """Names of backbones, and of those side by side in a fused one."""
    parts = [part["name"] for body in bodies for part in body.options.get("parts", ())]
    return {body.name for body in bodies} | set(parts)


def build(body: Body, *, channels: int, classes: int, seed: int) -> Network:
    """Make a network with fresh weights; the same seed gives the same weights.

    Layers draw from torch's one global generator, so threads take turns.
    """
    with _DICE, random.fork_rng(devices=[]):
        random.manual_seed(seed)
        return Network(body, make_backbone(body, channels), classes)


def make_backbone(body: Body, channels: int) -> Backbone:
    """Make a backbone from its record, with weights drawn from torch's global generator."""
    make = plugins.attribute(BACKBONES, body.name, "build")
    backbone: Backbone = make(channels=channels, **body.options)
    return backbone
