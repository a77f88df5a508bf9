"""What every backbone of every modality offers, and the record from which it is built again."""

from typing import Any

from pydantic import Field
from torch import nn

from transfer.core.config import Section
from transfer.modalities.normalisation import Normalisation


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
    """A file of transfer/modalities/image/backbones/."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of that file's ``build``: plain JSON values."""
