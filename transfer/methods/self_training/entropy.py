"""Entropy minimisation: decision boundaries that stay away from unlabelled items."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from transfer.methods.building_blocks.semi_supervised import (
    begin,
    diversity,
    end,
    mean_entropy,
    ramp,
    supervised,
    together,
    views_of,
)
from transfer.training.method import Batch, FineTuning, Job, Prepared, Trained


class Entropy(FineTuning):
    """Minimum entropy regularisation (Grandvalet and Bengio, NeurIPS 2004), from the source.

    loss = cross_entropy + w(t) * (mean_u H(p(x_u)) - diversity * H(mean_u p(x_u))), H in nats.

    The last term, of information maximisation (Krause, Perona and Gomes, NeurIPS 2010), keeps the
    first from giving every item the same class; it assumes classes of about equal size.
    """

    paper: ClassVar[str] = "Grandvalet and Bengio, 2004"
    reads_pool: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    weight: float = Field(0.3, ge=0)
    """Weight w of the unlabelled items' terms, once it has risen."""
    rise: float = Field(0.5, ge=0, le=1)
    """Share of the steps over which that weight rises."""
    diversity: float = Field(1.0, ge=0)
    """Strength of the term against a collapse; 0 is the method of 2004."""
    ratio: int = Field(2, ge=1)
    """Unlabelled items for each labelled one in a step."""

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        labelled, pool = together(prepared.network, batch.inputs, views_of(batch).weak)
        weight = self.weight * ramp(progress, self.rise)
        return {
            **supervised(labelled, batch.targets),
            "entropy": torch.mul(mean_entropy(pool), weight),
            "diversity": torch.mul(diversity(pool), -weight * self.diversity),
        }

    def train(self, job: Job) -> Trained:
        prepared = begin(self, job, self.ratio)
        return end(job.fit(self, prepared), prepared.transfers, job)


METHOD = Entropy
