"""Averages of networks that share their start: weights, batch statistics, and what to keep.

A state is a network's tensors by name. Averages make sense between networks that were fine-tuned
from the same weights (Frankle et al., ICML 2020: linear mode connectivity).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import update_bn

from transfer.data.items import TrainItems
from transfer.data.splits.folds import assign
from transfer.models.network import Network
from transfer.training.batches import batches, training_batch
from transfer.training.recipe import Recipe

ROUNDS = 8  # augmented views of each item that batch statistics are taken from
MOST = 256  # items a batch


def copied(network: Network) -> dict[str, Tensor]:
    """The state of a network, which training on does not change."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def mixed(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """The weighted sum of states; of counters and other integers those of the first.

    Args:
        states: one or more, of the same names and shapes.
        weights: one a state; they add up to 1.
    """
    first = states[0]
    return {
        name: sum(
            (state[name].double() * w for state, w in zip(states, weights, strict=True)),
            torch.zeros_like(tensor, dtype=torch.float64),
        ).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in first.items()
    }


def mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The plain mean of states."""
    return mixed(states, [1 / len(states)] * len(states))


def reestimate(network: Network, items: TrainItems, recipe: Recipe, seed: int) -> None:
    """Measure a network's batch-normalisation statistics anew, in place, without changing weights.

    Running means and variances become the mean over batches of augmented views of the items, none
    of them mixed with another. Running statistics of an average of weights were never measured
    with those weights (Izmailov et al., UAI 2018).
    """
    size = max(2, min(len(items), MOST))

    def views() -> Iterator[Tensor]:
        steps = math.ceil(ROUNDS * len(items) / size)
        for step, rows in enumerate(batches(len(items), size, seed, 0, steps)):
            yield training_batch(items, rows, recipe, seed, step, mixed=False).inputs

    with recipe.machine.autocast():
        update_bn(views(), network)


def held_out(items: TrainItems, parts: int, seed: int) -> NDArray[np.bool_]:
    """Which items (N) to judge averages by: about one in ``parts`` of each class, groups whole.

    No class is held out altogether: one that would be stays with the others.
    """
    labels = items.labels.numpy()
    held = assign(labels, items.groups.tolist(), parts, seed) == 0
    for label in np.unique(labels):
        own = labels == label
        if held[own].all():
            held &= ~np.isin(items.groups, items.groups[own])
    return held


def greedy(n: int, loss: Callable[[list[int]], float]) -> list[int]:
    """Ingredients of a greedy soup (Wortsman et al., ICML 2022, recipe 1), best first.

    Ingredients are tried in the order of their own loss; one is kept where the loss of the
    average falls.

    Args:
        n: how many there are, one or more.
        loss: of the average of the ingredients with these numbers; lower is better.
    """
    alone = [loss([i]) for i in range(n)]
    best, *others = sorted(range(n), key=alone.__getitem__)
    kept, least = [best], alone[best]
    for i in others:
        if (found := loss([*kept, i])) < least:
            kept, least = [*kept, i], found
    return kept
