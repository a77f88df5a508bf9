"""Averages of networks that start from the same weights: how they are computed, and of which.

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

VIEWS = 8  # augmented views of each item that batch statistics are measured on
MOST = 256  # items in a batch


def copied(network: Network) -> dict[str, Tensor]:
    """A copy of a network's state, which further training does not change."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def mixed(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """The weighted sum of states; counters and other integers are those of the first.

    Args:
        states: one or more, of the same names and shapes.
        weights: one for each state; their sum is 1.
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

    Running means and variances become the mean over batches of augmented views of the items,
    without mixing of items. Averaged weights need this, because the running statistics in a state
    belong to the weights before the average (Izmailov et al., UAI 2018).
    """
    size = max(2, min(len(items), MOST))

    def views() -> Iterator[Tensor]:
        steps = math.ceil(VIEWS * len(items) / size)
        for step, rows in enumerate(batches(len(items), size, seed, 0, steps)):
            yield training_batch(items, rows, recipe, seed, step, mixed=False).inputs

    with recipe.machine.autocast():
        update_bn(views(), network)


def held_out(items: TrainItems, parts: int, seed: int) -> NDArray[np.bool_]:
    """Which items (N bool) to compare averages on: about one in ``parts`` of each class, in whole
    groups.

    No class is held out completely: all groups of such a class stay in training.
    """
    labels = items.labels.numpy()
    held = assign(labels, items.groups.tolist(), parts, seed) == 0
    for label in np.unique(labels):
        of_class = labels == label
        if held[of_class].all():
            held &= ~np.isin(items.groups, items.groups[of_class])
    return held


def greedy(n: int, loss: Callable[[list[int]], float]) -> list[int]:
    """Ingredients of a greedy soup (Wortsman et al., ICML 2022, recipe 1), best first.

    Ingredients are tried in the order of their own loss; one is kept where the loss of the
    average falls.

    Args:
        n: number of ingredients, 1 or more.
        loss: gives the loss of the average of the ingredients with these numbers.
    """
    single_losses = [loss([i]) for i in range(n)]
    best, *others = sorted(range(n), key=single_losses.__getitem__)
    kept, lowest = [best], single_losses[best]
    for i in others:
        if (average_loss := loss([*kept, i])) < lowest:
            kept, lowest = [*kept, i], average_loss
    return kept
