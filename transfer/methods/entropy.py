"""Entropy minimisation: class borders that keep away from unlabelled items."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from transfer.method import Batch, Job, Method, Prepared, Trained, receive, stage_rates
from transfer.network import Network
from transfer.unlabelled import (
    begin,
    diversity,
    end,
    mean_entropy,
    ramp,
    supervised,
    together,
    views_of,
)
from transfer.weights import Knowledge


class Entropy(Method):
    """Minimum entropy regularisation (Grandvalet and Bengio, NeurIPS 2004), from the source.

    loss = cross_entropy + w(t) * (mean_u H(p(x_u)) - diversity * H(mean_u p(x_u))), H in nats.

    The last term, of information maximisation (Krause, Perona and Gomes, NeurIPS 2010), keeps the
    first from giving every item the same class; it supposes classes of about equal size.
    """

    paper: ClassVar[str] = "Grandvalet and Bengio, 2004"
    reads_pool: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate of the head."""
    body_rate: float = Field(0.5, gt=0, le=1)
    """Rate of the last stage, as a share of the head's."""
    decay: float = Field(0.8, gt=0, le=1)
    """Rate of a stage, as a share of that of the next one towards the output."""
    weight: float = Field(0.3, ge=0)
    """Weight w of the unlabelled items' terms, once it has risen."""
    rise: float = Field(0.5, ge=0, le=1)
    """Share of the steps over which that weight rises."""
    diversity: float = Field(1.0, ge=0)
    """Strength of the term against a collapse; 0 is the method of 2004."""
    ratio: int = Field(2, ge=1)
    """Unlabelled images a labelled one in each step."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        transfers = receive(network, knowledge, class_names)
        rates = stage_rates(network, self.learning_rate, self.body_rate, self.decay)
        return Prepared(network, rates, transfers)

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
