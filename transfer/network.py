"""A network is a backbone and a head. Shapes: N images, C channels, H x W pixels, D features."""

from threading import Lock

from pydantic import Field, field_validator
from torch import Tensor, nn, random

from transfer import backbones, registry
from transfer.section import Section

_DICE = Lock()


class Backbone(nn.Module):
    """Turns images (N, C, H, W) into features (N, D)."""

    out_features: int
    """D."""

    def stages(self) -> list[nn.Module]:
        """The parts from input to output, for learning rates that fall towards the input."""
        raise NotImplementedError


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
        if name not in (known := registry.names(backbones)):
            raise ValueError(f"expected one of {', '.join(known)}")
        return name


class Network(nn.Module):
    """Class scores of images: ``head(backbone(images))``."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.out_features, classes)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.backbone(images))
        return scores


def build(settings: BackboneSettings, *, channels: int, classes: int, seed: int) -> Network:
    """Make a network with fresh weights; the same seed gives the same weights.

    Layers draw from torch's one global generator, so threads take turns.
    """
    with _DICE, random.fork_rng(devices=[]):
        random.manual_seed(seed)
        return Network(_body(settings, channels), classes)


def _body(settings: BackboneSettings, channels: int) -> Backbone:
    module = registry.load(backbones, settings.name)
    body: Backbone = module.build(channels=channels, width=settings.width, pool=settings.pool)
    return body
