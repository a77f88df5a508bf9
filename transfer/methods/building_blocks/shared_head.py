"""One classifier for two label spaces: shared classes share a row, the source's others get one.

Where source and target have the same classes this is training on the union of both datasets;
where they have none in common, it is classical multi-task learning with two heads (Caruana,
Machine Learning 1997).

Each domain passes through the network on its own, so that batch normalisation standardises it by
its own statistics (Li et al., Pattern Recognition 2018: AdaBN). Running statistics are those of
the target alone, because the network is used on the target.
Shapes: N labelled items, M of the source, U unlabelled, D features, K classes, Ks of the source.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer.core.errors import SettingsError
from transfer.methods.building_blocks.semi_supervised import begin, end
from transfer.models.network import Network
from transfer.models.norm_layers import batch_norms
from transfer.models.parameter_transfer import Knowledge
from transfer.training.method import (
    Batch,
    FineTuning,
    Job,
    Method,
    Prepared,
    Trained,
    given,
    receive,
    stage_rates,
)


class SourceHead(nn.Module):
    """Scores of the source's classes, from the target's head and from rows of this module."""

    order: Tensor

    def __init__(self, features: int, source: Sequence[str], target: Sequence[str]) -> None:
        super().__init__()
        own = [name for name in source if name not in target]
        positions = {name: i for i, name in enumerate([*target, *own])}
        self.shared = [positions[name] for name in target if name in source]
        self.register_buffer("order", torch.tensor([positions[name] for name in source]))
        self.weight = nn.Parameter(torch.zeros(len(own), features))
        self.bias = nn.Parameter(torch.zeros(len(own)))

    def forward(self, features: Tensor, head: nn.Linear) -> Tensor:
        """Scores (M, Ks) of features (M, D)."""
        weight = torch.cat([head.weight, self.weight])[self.order]
        bias = torch.cat([head.bias, self.bias])[self.order]
        return functional.linear(features, weight, bias)


def source_head(network: Network, knowledge: Knowledge, target: Sequence[str]) -> SourceHead:
    """The head of a network for a source's classes, with the source's weights in its own rows.

    Raises:
        SettingsError: the source comes without classes, as packaged weights do.
    """
    if not knowledge.class_names:
        raise SettingsError(
            f"this method reads labelled items of its source, and {knowledge.source} has none; "
            "expected a source with a dataset: name one, or leave the method out"
        )
    head = SourceHead(network.head.in_features, knowledge.class_names, target)
    own = [i for i, name in enumerate(knowledge.class_names) if name not in target]
    with torch.no_grad():
        head.weight.copy_(knowledge.state["head.weight"][own])
        head.bias.copy_(knowledge.state["head.bias"][own])
    return head


def joined(
    network: Network,
    knowledge: Knowledge | None,
    class_names: tuple[str, ...],
    *,
    peak: float,
    backbone_rate: float,
    decay: float,
) -> Prepared:
    """A network with the source's weights, and ``helpers["source_head"]`` for its classes.

    Rates are those of `stage_rates`; the source's own rows train like the head.

    Raises:
        ValueError: there is no source to take from.
        SettingsError: the source comes without classes.
    """
    transfers = receive(network, knowledge, class_names)
    head = source_head(network, given(knowledge), class_names)
    rates = [*stage_rates(network, peak, backbone_rate, decay), (list(head.parameters()), peak)]
    return Prepared(network, rates, transfers, helpers=nn.ModuleDict({"source_head": head}))


def shared_classes(prepared: Prepared) -> list[int]:
    """Indices into the target's classes (S of K) of those that the source has too."""
    head = prepared.helpers["source_head"]
    assert isinstance(head, SourceHead)
    return head.shared


@contextmanager
def statistics_kept(backbone: nn.Module) -> Iterator[None]:
    """Standardise by the statistics of the batch and leave the running ones as they are.

    In evaluation mode nothing changes: batch normalisation still uses its running statistics.
    """
    norms = [norm for norm in batch_norms(backbone).values() if norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class DomainFeatures:
    """Features of a batch's domains, each from a forward pass of its own.

    Batch normalisation sees one domain at a time and keeps running statistics of the target's.

    Raises:
        ValueError: the batch has no items of the source.
    """

    def __init__(self, network: Network, batch: Batch) -> None:
        if batch.source is None:
            raise ValueError("this method reads items of the source and was given none")
        backbone = network.backbone
        with statistics_kept(backbone):
            self.source: Tensor = backbone(batch.source.inputs)  # M x D
        self.target = backbone(batch.inputs) if len(batch.inputs) else None  # N x D
        self.pool = backbone(batch.pool.weak) if batch.pool is not None else None  # U x D

    def domains(self) -> tuple[Tensor, Tensor]:
        """Features of the source (M, D) and of all items of the target (N + U, D).

        Raises:
            ValueError: the batch has no items of the target.
        """
        target = [part for part in (self.target, self.pool) if part is not None]
        if not target:
            raise ValueError("this method reads items of the target and was given none")
        return self.source, torch.cat(target)


def supervised(
    prepared: Prepared, batch: Batch, features: DomainFeatures, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Cross-entropy of the target's labelled items and of the source's, each where there are any.

    ``prepared.helpers["source_head"]`` scores the source's classes. ``weights`` (M), all 1 by
    default, multiply the losses of the source's items before their mean is taken.
    """
    head, joint = prepared.network.head, prepared.helpers["source_head"]
    assert batch.source is not None
    terms = {}
    if features.target is not None:
        terms["cross_entropy"] = functional.cross_entropy(head(features.target), batch.targets)
    scores = joint(features.source, head)
    losses = functional.cross_entropy(scores, batch.source.targets, reduction="none")
    terms["source"] = losses.mean() if weights is None else (weights * losses).mean()
    return terms


def aligned(method: Method, job: Job) -> Trained:
    """Train by a method that aligns the pool with the source's items; labelled items are optional.

    Raises:
        CrosstrainError: nothing is labelled, and the source lacks classes of the target.
        ValueError: there is no source, or no unlabelled item.
    """
    prepared = begin(method, job, 1)
    return end(job.fit(method, prepared), prepared.transfers, job)


class Joint(FineTuning):
    """A method that fine-tunes on labelled items of both domains, each with its own classes."""

    reads_source: ClassVar[bool] = True

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        return joined(
            network,
            knowledge,
            class_names,
            peak=self.learning_rate,
            backbone_rate=self.backbone_rate,
            decay=self.decay,
        )


class Aligned(Joint):
    """A method that also brings the features of both domains together, with or without a label of
    the target."""

    reads_pool: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    def train(self, job: Job) -> Trained:
        return aligned(self, job)
