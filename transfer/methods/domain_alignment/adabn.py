"""Batch normalisation by the target's own statistics: adaptation without gradients."""

import math
from collections.abc import Iterable, Iterator
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from transfer.core.errors import CrosstrainError
from transfer.data.items import PoolItems
from transfer.methods.building_blocks.head_first import HeadAlone
from transfer.methods.building_blocks.semi_supervised import check_classes, end, pool_of
from transfer.models.network import Network
from transfer.models.norm_layers import BatchNorm, batch_norms
from transfer.models.parameter_transfer import Transfer
from transfer.training.batches import pool_batch, to_input
from transfer.training.method import Job, Method, Prepared, Trained, receive
from transfer.training.recipe import Recipe


class AdaBN(Method):
    """Adaptive batch normalisation (Li, Wang, Shi, Hou and Liu, Pattern Recognition 2018).

    Mean and variance of each batch-normalised channel are measured anew on all unlabelled items;
    every learned weight of the backbone stays the source's. With labelled items, a linear head
    is trained on the adapted features; without any, the source's head is kept.
    """

    paper: ClassVar[str] = "Li et al., 2017"
    reads_pool: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    learning_rate: float = Field(1e-2, gt=0)
    """Peak learning rate of the head."""
    views: int = Field(8, ge=1)
    """Augmented views of each labelled item whose features are kept."""
    pool_views: int = Field(0, ge=0)
    """Augmented views of each unlabelled item that are measured in addition to the item itself."""

    def train(self, job: Job) -> Trained:
        """Measure the pool's statistics, and train the head if there are labelled items.

        Raises:
            CrosstrainError: the backbone has no batch normalisation; or nothing is labelled and
                the source lacks classes of the target.
            ValueError: there is no source, or no unlabelled item.
        """
        if not len(job.labelled):
            check_classes(job)
        network = job.network()
        transfers = receive(network, job.knowledge, job.class_names)
        network.to(job.recipe.machine.device)
        with job.recipe.machine.autocast():
            batches = inputs(
                pool_of(job), job.recipe, self.pool_views, job.seed, network.backbone.chunk
            )
            measure(network.backbone, batches)
        if len(job.labelled):
            rates = [(list(network.head.parameters()), self.learning_rate)]
            frozen = [network.backbone]
            ready = Prepared(network, rates, transfers, frozen=frozen, views=self.views)
            network = job.fit(HeadAlone(), ready)
        return end(network, _measured(network, transfers), job)


def inputs(pool: PoolItems, recipe: Recipe, views: int, seed: int, size: int) -> Iterator[Tensor]:
    """Batches of the pool's plain items, each followed by ``views`` augmented views of it."""
    parts = torch.arange(len(pool)).tensor_split(math.ceil(len(pool) / size))
    for part, rows in enumerate(parts):
        yield to_input(pool.records[rows], recipe)
        for view in range(views):
            yield pool_batch(pool, rows, recipe, None, seed, part * views + view).weak


def measure(backbone: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set each batch normalisation's running statistics to those of all batches, in place.

    Mean and unbiased variance are over all items and positions of a channel. While they are
    measured, each layer's own output is normalised by its batch. Weights stay as they are.

    Raises:
        CrosstrainError: there is no batch normalisation with running statistics.
    """
    layers = _layers(backbone)
    if not layers:
        raise CrosstrainError(
            "found no batch normalisation in this backbone, so there are no statistics to adapt; "
            "expected one such layer or more: choose another method or another backbone"
        )
    backbone.eval()
    moments = {name: _Moments(layer.train()) for name, layer in layers.items()}
    with torch.no_grad():
        for batch in batches:
            backbone(batch)
    for moment in moments.values():
        moment.settle()
    backbone.eval()


def _layers(backbone: nn.Module) -> dict[str, BatchNorm]:
    return {
        name: layer
        for name, layer in batch_norms(backbone).items()
        if layer.running_mean is not None
    }


class _Moments:
    """Sums over the inputs of a layer."""

    def __init__(self, layer: BatchNorm) -> None:
        self.layer, self.n = layer, 0
        self.sum = self.squares = torch.zeros((), dtype=torch.float64)
        self.hook = layer.register_forward_pre_hook(self._add)

    def _add(self, layer: nn.Module, args: tuple[Tensor]) -> None:
        values = args[0].double().transpose(0, 1).flatten(1)  # C x (items and positions)
        self.n += values.shape[1]
        self.sum = self.sum.to(values) + values.sum(1)
        self.squares = self.squares.to(values) + values.square().sum(1)

    def settle(self) -> None:
        """Write mean and unbiased variance into the layer."""
        self.hook.remove()
        mean = self.sum / self.n
        variance = (self.squares - self.n * mean.square()) / max(self.n - 1, 1)
        self.layer.get_buffer("running_mean").copy_(mean)
        self.layer.get_buffer("running_var").copy_(variance.clamp_min(0))


def _measured(network: Network, transfers: list[Transfer]) -> list[Transfer]:
    """The transfer map, in which the statistics are no longer the source's."""
    own = {
        f"backbone.{name}.{kind}"
        for name in _layers(network.backbone)
        for kind in ("running_mean", "running_var")
    }
    new = {"action": "reinitialised", "detail": "measured on the target's unlabelled items"}
    return [t.model_copy(update=new) if t.tensor in own else t for t in transfers]


METHOD = AdaBN
