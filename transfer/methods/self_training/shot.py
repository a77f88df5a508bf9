"""SHOT: adapt the backbone to unlabelled items until the source's own head predicts them with
certainty."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from transfer.data.items import PoolItems
from transfer.methods.building_blocks.semi_supervised import (
    begin,
    diversity,
    end,
    mean_entropy,
    pool_of,
    supervised,
    together,
    views_of,
)
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge
from transfer.training.batches import embed
from transfer.training.method import Batch, Job, Method, Prepared, Trained, receive, stage_rates
from transfer.training.recipe import Recipe


class Shot(Method):
    """Source hypothesis transfer (Liang, Hu and Feng, ICML 2020): needs no items of the source.

    loss = mean_u H(p(x_u)) - diversity * H(mean_u p(x_u)) + weight * CE(x_u, c_u), H in nats, and
    the cross-entropy of labelled items where there are any. The pseudo-labels c_u are of the
    nearest centroid (see `centroid_labels`), computed anew at the start of each round. The head
    stays the source's if it has every class; else it is trained too, for the rows of new classes.
    """

    paper: ClassVar[str] = "Liang, Hu and Feng, 2020"
    reads_pool: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate of the head, where it is trained."""
    backbone_rate: float = Field(0.5, gt=0, le=1)
    """Rate of the last stage, as a share of the head's."""
    decay: float = Field(0.8, gt=0, le=1)
    """Rate of a stage, as a share of that of the next one towards the output."""
    weight: float = Field(0.3, ge=0)
    """Weight of the pseudo-labels."""
    diversity: float = Field(1.0, ge=0)
    """Strength of the term against a collapse."""
    rounds: int = Field(5, ge=1)
    """How many times pseudo-labels are computed, at equal distances."""
    ratio: int = Field(2, ge=1)
    """Unlabelled items for each labelled one in a step."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        transfers = receive(network, knowledge, class_names)
        head, *stages = stage_rates(network, self.learning_rate, self.backbone_rate, self.decay)
        if knowledge and set(class_names) <= set(knowledge.class_names):
            return Prepared(network, stages, transfers, frozen=[network.head])
        return Prepared(network, [head, *stages], transfers)

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        views = views_of(batch)
        labelled, pool = together(prepared.network, batch.inputs, views.weak)
        labels = _labeller(prepared).labels[views.rows.to(pool.device)]
        pseudo = functional.cross_entropy(pool, labels)
        return {
            **supervised(labelled, batch.targets),
            "entropy": mean_entropy(pool),
            "diversity": torch.mul(diversity(pool), -self.diversity),
            "pseudo_labels": torch.mul(pseudo, self.weight),
        }

    def after_step(self, prepared: Prepared, progress: float) -> None:
        _labeller(prepared).reach(int(progress * self.rounds), prepared.network)

    def train(self, job: Job) -> Trained:
        prepared = begin(self, job, self.ratio)
        prepared.network.to(job.recipe.machine.device)
        labeller = Labeller(pool_of(job), job.recipe)
        prepared.helpers["labeller"] = labeller.to(job.recipe.machine.device)
        labeller.reach(0, prepared.network)
        return end(job.fit(self, prepared), prepared.transfers, job)


class Labeller(nn.Module):
    """Pseudo-labels of the pool, and the round in which they were computed."""

    labels: Tensor
    round: Tensor

    def __init__(self, pool: PoolItems, recipe: Recipe) -> None:
        super().__init__()
        self.records, self.recipe = pool.records, recipe
        self.register_buffer("labels", torch.zeros(len(pool), dtype=torch.long))
        self.register_buffer("round", torch.tensor(-1))

    @torch.no_grad()
    def reach(self, number: int, network: Network) -> None:
        """Compute the labels anew if this round begins."""
        if number <= int(self.round):
            return
        features = embed(network, self.records, 0, self.recipe, seed=0)[0]
        chances = network.head(features).softmax(1)
        self.labels.copy_(centroid_labels(features, chances))
        self.round.fill_(number)


def _labeller(prepared: Prepared) -> Labeller:
    labeller = prepared.helpers["labeller"]
    assert isinstance(labeller, Labeller)
    return labeller


def centroid_labels(features: Tensor, chances: Tensor) -> Tensor:
    """Class (U) of the centroid nearest to each item by the cosine of features (U, D).

    The centroids are first the means of all features weighted by the class probabilities (U, K),
    then those of the items nearest to them; a class without items keeps its first one.
    """
    first = (chances.T @ features) / chances.sum(0).clamp_min(1e-12)[:, None]  # K x D
    members = functional.one_hot(_nearest(features, first), chances.shape[1]).to(features)
    counts = members.sum(0)[:, None]
    second = (members.T @ features) / counts.clamp_min(1)
    return _nearest(features, torch.where(counts > 0, second, first))


def _nearest(features: Tensor, centroids: Tensor) -> Tensor:
    cosines = functional.normalize(features, dim=1) @ functional.normalize(centroids, dim=1).T
    return cosines.argmax(1)


METHOD = Shot
