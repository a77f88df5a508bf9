"""Distillation: a small network learns labels, and the sources' predictions for unlabelled
items."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from transfer.methods.building_blocks.closed_form_heads import Affine, Rows, logistic
from transfer.modalities import lookup
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge, scratch_transfer_map, transplant
from transfer.training.method import Batch, Job, Method, Prepared, Trained, given, stage_rates


class Soft(nn.Module):
    """The teachers' predictions for the pool, by row."""

    scores: Tensor

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.register_buffer("scores", scores)  # U x K log-probabilities


class Distill(Method):
    """Knowledge distillation (Hinton, Vinyals and Dean, NeurIPS workshop 2015).

    Each source is a teacher: its backbone, frozen, with a linear classifier fitted on the labelled
    items' features. The student is trained on augmented items; the teachers' mean probabilities q
    of the pool's plain items were computed once. With p the student's and T the temperature,

    loss = cross_entropy(labelled) + weight * T^2 * KL(q^(1/T) / Z || p_T), the mean over the pool,

    p_T = softmax(scores / T). The student starts from the first source whose backbone is of a kind
    that this project trains, else from random weights: the final network is small whatever the
    size of the teachers.
    """

    paper: ClassVar[str] = "Hinton, Vinyals and Dean, 2015"
    combines: ClassVar[bool] = True
    reads_pool: ClassVar[bool] = True

    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate of the head, and of all parameters if the student starts from random
    weights."""
    backbone_rate: float = Field(0.5, gt=0, le=1)
    """Rate of the last stage, as a share of the head's."""
    decay: float = Field(0.8, gt=0, le=1)
    """Rate of a stage, as a share of that of the next one towards the output."""
    temperature: float = Field(2.0, gt=0)
    """T: above 1 the teachers' uncertainty between classes counts for more."""
    weight: float = Field(1.0, ge=0)
    """Weight of the teachers, relative to the labels."""
    penalty: float = Field(3e-4, gt=0)
    """Strength of the pull of the teachers' classifiers towards zero."""
    views: int = Field(8, ge=1)
    """Augmented views of each labelled item that the teachers' classifiers are fitted on."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        if knowledge is None:
            rates = [(list(network.parameters()), self.learning_rate)]
            return Prepared(network, rates, scratch_transfer_map(network))
        transfers = transplant(network, knowledge, class_names)
        rates = stage_rates(network, self.learning_rate, self.backbone_rate, self.decay)
        return Prepared(network, rates, transfers)

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        assert batch.pool is not None
        inputs = torch.cat([batch.inputs, batch.pool.weak])  # one pass: both are the target's
        labelled, pool = prepared.network(inputs).split([len(batch.inputs), len(batch.pool.rows)])
        soft = prepared.helpers["teachers"].get_buffer("scores")[batch.pool.rows]
        return {
            "cross_entropy": functional.cross_entropy(labelled, batch.targets),
            "distillation": torch.mul(divergence(pool, soft, self.temperature), self.weight),
        }

    def train(self, job: Job) -> Trained:
        given(job.knowledge)
        soft = self._teach(job)
        small = lookup.of(job.recipe.spec).trainable()
        start = next((source for source in job.several if source.backbone_spec.name in small), None)
        backbone_spec = start.backbone_spec if start else job.own
        prepared = self.prepare(job.network(backbone_spec), start, job.class_names)
        prepared.helpers["teachers"] = Soft(soft)
        notes: dict[str, float | str] = {
            "teachers": ", ".join(source.source for source in job.several),
            "student starts from": start.source if start else "random weights",
        }
        return Trained(job.fit(self, prepared), prepared.transfers, notes=notes)

    def _teach(self, job: Job) -> Tensor:
        """Log of the teachers' mean probabilities (U, K) of the pool."""
        return mean_log([self._probabilities(job, source) for source in job.several])

    def _probabilities(self, job: Job, source: Knowledge) -> Tensor:
        teacher = job.network(source.backbone_spec)
        transplant(teacher, source, job.class_names)
        normal = source.normal if source.fixed_normal else job.recipe.normal
        labelled = job.embed(teacher, self.views, normal=normal).double()  # V x N x D
        scores = classifier(job, labelled, self.penalty)
        pool = job.embed(teacher, pool=True, normal=normal)[0].double()  # U x D
        return torch.from_numpy(scores(pool.numpy())).softmax(1).float()


def classifier(job: Job, embedded: Tensor, penalty: float) -> Affine:
    """Scores (K) of raw features by logistic regression on the labelled items' (V, N, D).

    Minimises the mean log loss + penalty / 2 * ||W||^2 over standardised features divided by
    sqrt(D), whose mean squared length is 1 whatever D: C = 1 / (penalty N D) on undivided ones.
    """
    views, n, features = embedded.shape
    rows = Rows(
        embedded.flatten(0, 1).numpy(),
        np.tile(job.labelled.labels.numpy(), views),
        np.tile(job.labelled.groups, views),
        len(job.class_names),
        views,
    )
    scaled, scaling = rows.standardised()
    (scores,) = logistic(scaled, [1 / (penalty * n * features)])
    return scaling.then(scores)


def mean_log(probabilities: Sequence[Tensor]) -> Tensor:
    """Log of the mean of teachers' probabilities, each (U, K)."""
    return torch.stack(list(probabilities)).mean(0).clamp_min(1e-12).log()


def divergence(scores: Tensor, soft: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(soft / T) || softmax(scores / T)), the mean over U items.

    T^2 keeps the gradients' size whatever the temperature (Hinton et al., section 2.1).

    Args:
        scores: (U, K) of the student.
        soft: (U, K) log-probabilities of the teachers.
        temperature: T.
    """
    teachers = (soft / temperature).log_softmax(1)
    student = (scores / temperature).log_softmax(1)
    divergence = functional.kl_div(student, teachers, reduction="batchmean", log_target=True)
    return divergence * temperature**2


METHOD = Distill
