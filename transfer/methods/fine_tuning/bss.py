"""Fine-tuning that shrinks the directions of feature space that transfer badly."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from transfer.training.method import Batch, FineTuning, Prepared


def smallest_squares(features: Tensor, k: int) -> Tensor:
    """Sum of the k smallest squared singular values of a batch's features (N, D), a scalar.

    All of them where there are fewer than k; not finite where a feature is not, so that the
    training loop can report that training diverged.
    """
    if not features.isfinite().all():
        return features.sum()
    return torch.linalg.svdvals(features.float())[-k:].square().sum()


class BatchSpectralShrinkage(FineTuning):
    """BSS (Chen, Wang, Fu, Long and Wang, NeurIPS 2019), on all parameters from the source.

    loss = cross_entropy + eta * sum over i = 1..k of sigma_{-i}^2, with sigma_{-i} the i-th
    smallest singular value of F (N, D), the features of a batch: its min(N, D) singular values.
    The term grows with the batch and with the scale of the features; it is 0, with gradient
    0, where F has a rank below min(N, D) by k or more.
    """

    paper: ClassVar[str] = "Chen et al., 2019"
    eta: float = Field(1e-3, ge=0)
    """Strength of the shrinkage."""
    k: int = Field(1, ge=1)
    """How many of the smallest singular values are shrunk."""

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        features = prepared.network.backbone(batch.inputs)  # N x D
        scores = prepared.network.head(features)
        return {
            "cross_entropy": functional.cross_entropy(scores, batch.targets),
            "shrinkage": torch.mul(smallest_squares(features, self.k), self.eta),
        }


METHOD = BatchSpectralShrinkage
