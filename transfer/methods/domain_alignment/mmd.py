"""Deep adaptation: features of source and target with the same mean in a kernel's space."""

from typing import ClassVar

from pydantic import Field, field_validator
from torch import Tensor

from transfer.methods.building_blocks.alignment import mk_mmd, ramp
from transfer.methods.building_blocks.shared_head import Aligned, DomainFeatures, supervised
from transfer.training.method import Batch, Prepared


class Mmd(Aligned):
    """Maximum mean discrepancy over several kernels (DAN: Long et al., ICML 2015).

    loss = cross-entropies of the labelled items of both domains
    + strength * ramp(progress) * MMD^2(source, target), the unbiased estimate of
    `transfer.methods.building_blocks.alignment.mk_mmd` on features, with equal weights of the
    kernels. Without target labels it learns from the source's. Where no class is shared the
    features alone are aligned.
    """

    paper: ClassVar[str] = "Long et al., 2015"

    strength: float = Field(1.0, ge=0)
    """Weight of the squared discrepancy at the end of training."""
    multiples: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    """Widths of the Gaussian kernels, as multiples of the mean squared distance of a batch."""

    @field_validator("multiples")
    @classmethod
    def _widths(cls, multiples: tuple[float, ...]) -> tuple[float, ...]:
        if not multiples or min(multiples) <= 0:
            raise ValueError("expected one width or more, all above 0")
        return multiples

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        features = DomainFeatures(prepared.network, batch)
        distance = mk_mmd(*features.domains(), self.multiples)
        strength = self.strength * ramp(progress)
        return {**supervised(prepared, batch, features), "mmd": strength * distance}


METHOD = Mmd
