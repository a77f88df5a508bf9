"""What methods that learn from unlabelled items of the target have in common.

Shapes: N labelled items of a batch, U unlabelled, K classes.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer.core.errors import CrosstrainError
from transfer.data.items import PoolItems
from transfer.modalities import lookup
from transfer.modalities.interface import Strength
from transfer.models.network import Network
from transfer.models.parameter_transfer import Transfer
from transfer.training.batches import logits
from transfer.training.method import Batch, Job, Method, PoolBatch, Prepared, Trained, given

NO_POOL = "this method reads unlabelled items and was given none"
SPREAD = "classes predicted on the pool"
"""Name of the note that shows a collapse; see `predicted_classes`."""


def pool_of(job: Job) -> PoolItems:
    """The unlabelled items of a job.

    Raises:
        ValueError: there are none.
    """
    if not job.pool:
        raise ValueError(NO_POOL)
    return job.pool


def views_of(batch: Batch) -> PoolBatch:
    """The unlabelled items of a batch.

    Raises:
        ValueError: there are none.
    """
    if batch.pool is None:
        raise ValueError(NO_POOL)
    return batch.pool


def check_classes(job: Job) -> None:
    """Check that the source's head has every class of the target.

    Raises:
        CrosstrainError: classes are missing; the message names them.
        ValueError: there is no source.
    """
    source = given(job.knowledge)
    if missing := [name for name in job.class_names if name not in source.class_names]:
        available = ", ".join(source.class_names) or "none"
        raise CrosstrainError(
            f"the source {source.source} lacks the target's classes {', '.join(missing)} "
            f"(it has {available}); expected every class of the target among the source's, because "
            "the class scores come from the source's head: label some items and choose a method "
            "that learns from them, or choose another source"
        )


def begin(
    method: Method,
    job: Job,
    ratio: int,
    strong: Mapping[str, Any] | None = None,
    level: Strength = "strong",
) -> Prepared:
    """Prepare a method's network, with ``ratio`` unlabelled items for each labelled one in a step.

    ``strong`` replaces fields of the modality's augmentation of strength ``level`` in the strong
    view; with None that view equals the weak one.

    Raises:
        CrosstrainError: nothing is labelled, and the source lacks classes of the target.
        SettingsError: the modality has no such augmentation.
        ValueError: there is no source, or no unlabelled item.
    """
    if not len(job.labelled):
        check_classes(job)
    prepared = method.prepare(job.network(), job.knowledge, job.class_names)
    pool_of(job)
    prepared.pool_batch = ratio * job.recipe.training.batch_size
    if strong is not None:
        prepared.strong = lookup.of(job.recipe.spec).strong_augmentation(level, strong)
    return prepared


def end(network: Network, transfers: list[Transfer], job: Job, **notes: float | str) -> Trained:
    """Return a finished network, with a note of how many classes it predicts on the pool."""
    network.requires_grad_(False)
    network.to(job.recipe.machine.device)
    scores = logits(network, pool_of(job).records, job.recipe)
    return Trained(network.eval(), transfers, notes={**notes, SPREAD: predicted_classes(scores)})


def predicted_classes(scores: Tensor) -> float:
    """Effective number of predicted classes, 1 to K: exp of the entropy of the mean prediction.

    It is 1 for a model that gives each item the same class, whatever its accuracy.
    """
    return math.exp(float(diversity(scores.double())))


def together(network: Network, *parts: Tensor) -> tuple[Tensor, ...]:
    """Class scores of several sets of items by one forward pass.

    Batch normalisation then treats all of them alike in training, as it will in use: by the
    statistics of their mixture.
    """
    scores: Tensor = network(torch.cat(parts)).float()
    return scores.split([len(part) for part in parts])


class PseudoLabels(nn.Module):
    """Targets of the pool: class probabilities, and which items are trained on."""

    targets: Tensor
    chosen: Tensor

    def __init__(self, targets: Tensor, chosen: Tensor) -> None:
        super().__init__()
        self.register_buffer("targets", targets)
        self.register_buffer("chosen", chosen)

    def forward(self, scores: Tensor, rows: Tensor) -> Tensor:
        """Mean cross-entropy of scores (U, K) over those of these items (U) that are chosen."""
        rows = rows.to(self.targets.device)
        chosen = self.chosen[rows].float()
        losses = functional.cross_entropy(scores, self.targets[rows], reduction="none")
        return (losses * chosen).sum() / chosen.sum().clamp_min(1)


def supervised(scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Cross-entropy of the labelled items (N, K); no term where there are none."""
    if not len(targets):
        return {}
    return {"cross_entropy": functional.cross_entropy(scores, targets)}


def mean_entropy(scores: Tensor) -> Tensor:
    """Mean entropy of the predictions (U, K), in nats: 0 where each is certain."""
    logs = scores.log_softmax(1)
    return -(logs.exp() * logs).sum(1).mean()


def diversity(scores: Tensor) -> Tensor:
    """Entropy of the mean prediction of scores (U, K), in nats: log K where it is uniform."""
    logs = scores.log_softmax(1).logsumexp(0) - math.log(len(scores))
    return -(logs.exp() * logs).sum()


def ramp(progress: float, over: float) -> float:
    """Weight that rises to 1 over a share of the steps: exp(-5 (1 - t)^2), t = progress / over.

    Laine and Aila, ICLR 2017.
    """
    if progress >= over:
        return 1.0
    return math.exp(-5 * (1 - progress / over) ** 2)
