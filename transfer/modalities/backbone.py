"""What every backbone of every modality offers, and the record from which it is built again."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from pydantic import Field
from torch import nn, random

from transfer.core.config import Section
from transfer.modalities.normalisation import Normalisation

_GENERATOR = Lock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw the weights of new layers from a seed. Threads take turns, because all layers draw from
    the same generator of torch."""
    with _GENERATOR, random.fork_rng(devices=[]):
        random.manual_seed(seed)
        yield


class Backbone(nn.Module):
    """Turns a batch of network inputs (N, ...) into features (N, D)."""

    normal: Normalisation | None = None
    """How the inputs must be standardised; None uses the statistics of the data."""
    chunk: int = 512
    """Items per forward pass outside training: fewer where an item takes much memory."""
    out_features: int
    """D."""

    def stages(self) -> list[nn.Module]:
        """The parts from input to output, for learning rates that fall towards the input."""
        raise NotImplementedError


class BackboneSpec(Section):
    """What `build` needs to make a backbone again; part of every model's card."""

    name: str
    """Key of a backbone of the modality."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of that backbone's ``build``: plain JSON values."""
