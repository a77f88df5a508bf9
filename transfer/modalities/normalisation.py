"""How pixels are standardised before a network sees them."""

import torch
from torch import Tensor

from transfer.core.config import Section


class Normalisation(Section):
    """Mean and standard deviation a channel, of pixels scaled to 0..1, from training data only.

    Those of a target are measured on all its labelled items: the items that a fold holds out are
    among them, with two numbers a channel and no label.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, images: Tensor) -> Tensor:
        """Standardise a batch (N, C, H, W) of pixels in 0..1."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return (images - mean) / std
