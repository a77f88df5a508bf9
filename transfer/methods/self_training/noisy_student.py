"""Noisy student: several networks label the pool together, and another one learns from it."""

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

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
from transfer.training.batches import embed, logits
from transfer.training.method import Batch, FineTuning, Job, Method, Prepared, Trained


class NoisyStudent(FineTuning):
    """Noisy student (Xie, Luong, Hovy and Le, CVPR 2020) of several teachers, a deep ensemble
    (Lakshminarayanan, Pritzel and Blundell, NeurIPS 2017).

    Several teachers are fine-tuned on the labelled items, from the source's weights, each with an
    order and augmentation of its own. The target of an item of the pool is the mean q of the
    teachers' probabilities for the plain item and for augmented views of it. A student starts
    from the source's weights once more and learns

    loss = cross_entropy(labelled) + weight * mean_u sum_k -q_uk log p_k(strong x_u)

    over the items u of the pool that have no label: the uncertainty of q is learned too. With
    several rounds, each student is the next one's only teacher. Teachers and students share one
    budget of steps.
    """

    paper: ClassVar[str] = "Xie et al., 2020; Lakshminarayanan et al., 2017"
    reads_pool: ClassVar[bool] = True

    teachers: int = Field(3, ge=1)
    """Networks that label the pool together."""
    teaching: float = Field(0.5, gt=0, lt=1)
    """Share of the steps that all teachers take together; their steps are the cheaper ones."""
    rounds: int = Field(1, ge=1)
    """Students, one after the other; each learns from the one before it."""
    views: int = Field(2, ge=0)
    """Augmented views of each unlabelled item that are labelled in addition to the plain one."""
    align: bool = False
    """Scale the probabilities to the classes' shares among the labelled items; wrong if the
    unlabelled items have other shares."""
    weight: float = Field(1.0, ge=0)
    """Weight of the teachers' labels, relative to the true ones."""
    ratio: int = Field(2, ge=1)
    """Unlabelled items for each labelled one in a step."""
    strong: dict[str, Any] = Field(default_factory=dict)
    """How the student's view of unlabelled items is augmented: fields as in `augment` that replace
    those of the modality's own strong augmentation."""

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        views = views_of(batch)
        labelled, strong = together(prepared.network, batch.inputs, views.strong)
        loss = prepared.helpers["pseudo"](strong, views.rows)
        return {**supervised(labelled, batch.targets), "teachers": torch.mul(loss, self.weight)}

    def train(self, job: Job) -> Trained:
        share = self.teaching / self.teachers
        teachers = [self._teacher(job, share) for _ in range(self.teachers)]
        for _ in range(self.rounds):
            targets = torch.stack([self._predicted(network, job) for network in teachers]).mean(0)
            student = begin(self, job, self.ratio, self.strong)
            student.helpers["pseudo"] = self._pseudo_labels(targets, job)
            teachers = [job.fit(self, student, share=(1 - self.teaching) / self.rounds)]
        return end(teachers[0], student.transfers, job)

    def _teacher(self, job: Job, share: float) -> Network:
        prepared = self.prepare(job.network(), job.knowledge, job.class_names)
        return job.fit(Method(), prepared, share=share)

    def _predicted(self, network: Network, job: Job) -> Tensor:
        """Mean probabilities (U, K) of the pool's items and of views of them."""
        records = pool_of(job).records
        plain = logits(network, records, job.recipe).softmax(1)
        if not self.views:
            return plain
        with torch.inference_mode():
            features = embed(network, records, self.views, job.recipe, job.seed)
            views = network.head(features).float().softmax(2).cpu()
        return (plain + views.sum(0)) / (1 + self.views)

    def _pseudo_labels(self, targets: Tensor, job: Job) -> PseudoLabels:
        unlabelled = torch.from_numpy(~np.isin(pool_of(job).ids, job.labelled.ids))
        if self.align:
            shares = torch.bincount(job.labelled.labels, minlength=len(job.class_names))
            targets = aligned(targets, shares / shares.sum())
        return PseudoLabels(targets, unlabelled)


def aligned(chances: Tensor, shares: Tensor, iterations: int = 10) -> Tensor:
    """Probabilities (U, K) whose mean over the items comes close to the classes' shares (K).

    Iterative proportional fitting (Sinkhorn and Knopp, 1967): columns are scaled to their shares,
    rows to sum to 1, in turn.
    """
    for _ in range(iterations):
        chances = chances * (shares / chances.mean(0).clamp_min(1e-12))
        chances = chances / chances.sum(1, keepdim=True).clamp_min(1e-12)
    return chances


METHOD = NoisyStudent
