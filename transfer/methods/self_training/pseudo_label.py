"""Self-training: the network labels the pool, and learns from its most certain labels."""

import math
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from transfer.methods.building_blocks.semi_supervised import (
    PseudoLabels,
    begin,
    end,
    pool_of,
    supervised,
    together,
    views_of,
)
from transfer.models.network import Network
from transfer.training.batches import logits
from transfer.training.method import Batch, FineTuning, Job, Method, Prepared, Trained


class PseudoLabel(FineTuning):
    """Class-balanced self-training (Zou et al., ECCV 2018) with a noisy student (Xie et al., CVPR
    2020), after Lee's pseudo-labels (ICML workshop 2013).

    First the source's network is fine-tuned on the labelled items; without any it stays
    unchanged. Then, in each round, it labels the pool, and training goes on with

    loss = cross_entropy + weight * mean_u CE(strong x_u, y_u)

    over the chosen items u of the batch: of each predicted class the most confident share, which
    grows from ``first_share`` to ``last_share``. Labelled items get no pseudo-label.
    """

    paper: ClassVar[str] = "Lee, 2013; Zou et al., 2018; Xie et al., 2020"
    reads_pool: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    labelled_steps: float = Field(0.4, gt=0, lt=1)
    """Share of the steps on labelled items alone."""
    rounds: int = Field(2, ge=1)
    """How many times the pool is labelled."""
    first_share: float = Field(0.5, gt=0, le=1)
    """Share of each predicted class that is trained on in the first round."""
    last_share: float = Field(0.8, gt=0, le=1)
    """The same in the last round."""
    threshold: float = Field(0.4, ge=0, le=1)
    """Least probability of a pseudo-label that is trained on."""
    soft: bool = False
    """Learn the predicted probabilities instead of the most probable class."""
    weight: float = Field(1.0, ge=0)
    """Weight of the pseudo-labels."""
    ratio: int = Field(2, ge=1)
    """Unlabelled items for each labelled one in a step."""
    strong: dict[str, Any] = Field(default_factory=dict)
    """How the view of pseudo-labelled items is augmented: fields as in `augment` that replace
    those of the modality's own strong augmentation."""

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        views = views_of(batch)
        labelled, strong = together(prepared.network, batch.inputs, views.strong)
        pseudo = prepared.helpers["pseudo"](strong, views.rows)
        return {
            **supervised(labelled, batch.targets),
            "pseudo_labels": torch.mul(pseudo, self.weight),
        }

    def train(self, job: Job) -> Trained:
        prepared = begin(self, job, self.ratio, self.strong)
        left, network = 1.0, prepared.network.to(job.recipe.machine.device)
        if len(job.labelled):
            network = job.fit(Method(), prepared, share=self.labelled_steps)
            left -= self.labelled_steps
        for number in range(self.rounds):
            prepared.helpers["pseudo"] = self._label(network, job, number)
            network.requires_grad_(True)
            network = job.fit(self, prepared, share=left / self.rounds)
        return end(network, prepared.transfers, job, **_notes(prepared))

    def _label(self, network: Network, job: Job, number: int) -> PseudoLabels:
        pool = pool_of(job)
        chances = logits(network, pool.records, job.recipe).softmax(1)
        grown = number / max(self.rounds - 1, 1)
        share = self.first_share + grown * (self.last_share - self.first_share)
        new = torch.from_numpy(~np.isin(pool.ids, job.labelled.ids))
        chosen = torch.zeros(len(pool), dtype=torch.bool)
        chosen[new] = most_confident(chances[new], share, self.threshold)
        hard = functional.one_hot(chances.argmax(1), chances.shape[1]).float()
        return PseudoLabels(chances if self.soft else hard, chosen)


def most_confident(chances: Tensor, share: float, least: float) -> Tensor:
    """Which items (U bool) of each predicted class are its most confident ones.

    The share of each class is rounded up; of equal ones the first are taken. Items whose largest
    probability is below ``least`` are left out.
    """
    certainty, labels = chances.max(1)
    chosen = torch.zeros(len(chances), dtype=torch.bool)
    for label in labels.unique():
        rows = (labels == label).nonzero().squeeze(1)
        order = certainty[rows].argsort(descending=True, stable=True)
        chosen[rows[order[: math.ceil(share * len(rows))]]] = True
    return chosen & (certainty >= least)


def _notes(prepared: Prepared) -> dict[str, float | str]:
    pseudo = prepared.helpers["pseudo"]
    assert isinstance(pseudo, PseudoLabels)
    return {"pseudo-labelled items": float(pseudo.chosen.sum())}


METHOD = PseudoLabel
