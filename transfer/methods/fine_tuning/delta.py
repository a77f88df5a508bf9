"""Fine-tuning that keeps feature maps near the source's, rather than weights.

Shapes: N items, K classes; the map of stage s of the backbone is (N, C, H, W), or of any other
shape with the items first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from transfer.core.errors import SettingsError
from transfer.data.items import TrainItems
from transfer.methods.building_blocks.head_first import probe
from transfer.modalities.backbone import Backbone
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge
from transfer.training.batches import logits
from transfer.training.method import Batch, FineTuning, Job, Prepared, Trained, receive, stage_rates
from transfer.training.recipe import Recipe


class Delta(FineTuning):
    """DELTA (Li, Xiong, Wang, Rao, Liu, Chen and Huan, ICLR 2019), on all parameters from the
    source.

    loss = cross_entropy + alpha * sum over stages s of sum over channels c of
    a_sc * mean over items and positions of (F_sc - F0_sc)^2, with F_s the map that stage s outputs
    and F0_s that of a frozen copy of the source's backbone, in evaluation mode, for the same input.
    The mean in place of the paper's sum over a map's positions makes ``alpha`` mean the same at any
    resolution. The network itself is in training mode, so that the term is above 0 from the start
    where the target's statistics are not the source's.

    The weights a_sc of a stage sum to 1: all equal, or with ``attention`` the softmax over channels
    of the growth of the labelled items' mean cross-entropy when the source's backbone outputs zero
    in place of that channel, under a head that was trained on the frozen backbone. (In the paper
    each item has weights of its own.) The paper's pull of new weights to zero is the loop's weight
    decay.
    """

    paper: ClassVar[str] = "Li et al., 2019"
    alpha: float = Field(0.1, ge=0)
    """Strength of the pull towards the source's feature maps."""
    attention: float = Field(0.0, ge=0, lt=1)
    """Share of the steps that first train the head alone, so that channels can be weighted; the
    backbone is then trained from that head. It costs one pass over the labelled items for each
    channel. 0 gives all channels the same weight."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        transfers = receive(network, knowledge, class_names)
        source = deepcopy(network.backbone)
        rates = stage_rates(network, self.learning_rate, self.backbone_rate, self.decay)
        helpers = nn.ModuleDict({"source": source})
        return Prepared(network, rates, transfers, helpers=helpers, frozen=[source])

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        with maps_of(prepared.network.backbone) as maps:
            scores = prepared.network(batch.inputs)
        source = prepared.helpers["source"]
        assert isinstance(source, Backbone)
        with torch.no_grad(), maps_of(source) as source_maps:
            source(batch.inputs)
        difference = scores.new_zeros(())
        for i, (own, reference) in enumerate(zip(maps, source_maps, strict=True)):
            difference = difference + distance(own, reference, prepared.reference.get(_weights(i)))
        return {
            "cross_entropy": functional.cross_entropy(scores, batch.targets),
            "feature_maps": torch.mul(difference, self.alpha),
        }

    def train(self, job: Job) -> Trained:
        prepared = self.prepare(job.network(), job.knowledge, job.class_names)
        if self.attention:
            probe(job, prepared, rate=1e-2, views=8, share=self.attention)
            weights = attention(prepared.network, job.labelled, job.recipe)
            prepared.reference = {_weights(i): part for i, part in enumerate(weights)}
        network = job.fit(self, prepared, share=1 - self.attention)
        return Trained(network, prepared.transfers)


@contextmanager
def maps_of(backbone: Backbone) -> Iterator[list[Tensor]]:
    """Inside the block, a forward pass of a backbone appends its stages' outputs to the list."""
    maps: list[Tensor] = []

    def keep(stage: nn.Module, inputs: Any, output: Tensor) -> None:
        maps.append(output)

    hooks = [stage.register_forward_hook(keep) for stage in backbone.stages()]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def distance(own: Tensor, other: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared difference of two maps, a scalar; weights (C,) belong to their channels, which
    are then the second dimension, and sum to 1."""
    squares = (own.float() - other.float()).square()
    if weights is None:
        return squares.mean()
    return (squares.transpose(0, 1).flatten(1).mean(1) * weights).sum()


def attention(network: Network, items: TrainItems, recipe: Recipe) -> list[Tensor]:
    """Weights (C,) of the channels of each stage, by the growth of the loss without each.

    Raises:
        SettingsError: a stage's output is not a map of channels.
    """
    whole = _loss(network, items, recipe)
    with maps_of(network.backbone) as maps:
        logits(network, items.records[:1], recipe)
    weights = []
    for stage, output in zip(network.backbone.stages(), maps, strict=True):
        if output.dim() != 4:
            raise SettingsError(
                f"delta found a stage of {network.backbone_spec.name!r} with outputs of "
                f"{output.dim()} dimensions; its attention expects maps of channels: set "
                "attention to 0"
            )
        losses = [_without(network, stage, c, items, recipe) for c in range(output.shape[1])]
        weights.append((torch.tensor(losses) - whole).softmax(0))
    return weights


def _without(
    network: Network, stage: nn.Module, channel: int, items: TrainItems, recipe: Recipe
) -> float:
    def silence(stage: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output.index_fill(1, torch.tensor([channel], device=output.device), 0.0)

    hook = stage.register_forward_hook(silence)
    try:
        return _loss(network, items, recipe)
    finally:
        hook.remove()


def _loss(network: Network, items: TrainItems, recipe: Recipe) -> float:
    return float(functional.cross_entropy(logits(network, items.records, recipe), items.labels))


def _weights(stage: int) -> str:
    return f"attention.{stage}"


METHOD = Delta
