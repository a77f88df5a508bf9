"""Features of different backbones on the same scale, by a map that folds into a linear head.

Shapes: N items, D features, K classes.
"""

from dataclasses import dataclass

from torch import Tensor

FLOOR = 0.1  # of the mean standard deviation, for features that hardly vary


@dataclass(frozen=True)
class Standard:
    """The map z = (x - centre) * scale of each feature."""

    centre: Tensor  # D
    scale: Tensor  # D

    def apply(self, features: Tensor) -> Tensor:
        """Standardised features (..., D)."""
        return (features - self.centre) * self.scale

    def folded(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The head (K, D), (K,) for raw features with the scores of the given one for z."""
        raw = weight * self.scale
        return raw, bias - raw @ self.centre


def standard(features: Tensor) -> Standard:
    """Measure features (N, D): mean 0 and variance 1/D each, so that items have a mean squared
    length of 1 whatever D.

    The standard deviation of a feature that hardly varies is taken as a tenth of the mean of all,
    so that noise is not amplified.
    """
    wide = features.double()
    centre, std = wide.mean(0), wide.std(0, correction=0)
    floor = FLOOR * float(std.mean()) or 1.0
    scale = 1 / (std.clamp_min(floor) * features.shape[1] ** 0.5)
    return Standard(centre.to(features), scale.to(features))
