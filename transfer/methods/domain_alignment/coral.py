"""Deep CORAL: features of source and target with the same covariance."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from transfer.methods.building_blocks.alignment import coral, ramp
from transfer.methods.building_blocks.shared_head import Aligned, DomainFeatures, supervised
from transfer.training.method import Batch, Prepared


class Coral(Aligned):
    """Correlation alignment (Sun and Saenko, ECCV workshops 2016).

    loss = cross-entropies of the labelled items of both domains
    + strength * ramp(progress) * ||C_s - C_t||_F^2 / (4 D^2), with C_s and C_t the covariances
    (D, D) of the features of the source's items and of all items of the target. Without target
    labels it learns from the source's. Where no class is shared the features alone are aligned.
    """

    paper: ClassVar[str] = "Sun and Saenko, 2016"

    strength: float = Field(100.0, ge=0)
    """Weight of the distance at the end of training. The distance is divided by 4 D^2, so a wider
    backbone needs more; too much shrinks the features until classes are lost."""

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        features = DomainFeatures(prepared.network, batch)
        distance = coral(*features.domains())
        strength = self.strength * ramp(progress)
        return {**supervised(prepared, batch, features), "coral": strength * distance}


METHOD = Coral
