"""Replicas: one initialisation, trained on disjoint parts of the labels and merged into one model.

FedAvg (McMahan et al., AISTATS 2017), local SGD (Stich, ICLR 2019), model soups (Wortsman et al.,
ICML 2022), clipped updates (McMahan et al., ICLR 2018). Shapes: N items.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from transfer.data.items import TrainItems
from transfer.data.splits import folds
from transfer.data.storage.tensor_store import Records
from transfer.models import merging as merge
from transfer.models.network import Network
from transfer.models.norm_layers import batch_norms
from transfer.training.batches import logits, to_input
from transfer.training.method import FineTuning, Job, Trained, given
from transfer.training.recipe import Recipe

LEAST = 5  # steps of a phase: a shorter phase ends before its learning rate has risen and fallen

State = dict[str, Tensor]


@dataclass(frozen=True)
class _Cut:
    """The labelled items: those trained on, the parts these are divided into, and those held
    out."""

    trained: TrainItems
    part: NDArray[np.int64]  # of each item trained on, 0 to k - 1
    held: TrainItems

    @property
    def count(self) -> int:
        """Number of parts k."""
        return int(self.part.max()) + 1

    def take(self, k: int) -> TrainItems:
        """The items of part ``k``."""
        return self.trained.take(self.part == k)


class Replicas(FineTuning):
    """k networks, each fine-tuned on its own part of the items, merged after each of R rounds.

    The labelled items are divided into k parts with like shares of the classes. In each round every
    replica starts from the merged weights (in the first, from the source's) and takes steps / (k R)
    steps, so that all replicas together take one network's training budget. Every phase has a
    one-cycle schedule, whose peak falls from round to round as half a cosine: the rounds resemble
    one annealed training.

    The merge is checked: if it is right on fewer items than the best single replica, it is
    refused and that replica is the result. The statistics of batch normalisation are
    measured on all items trained on, for every network that is compared or kept.
    """

    paper: ClassVar[str] = "McMahan et al., 2017; Stich, 2019"
    learning_rate: float = Field(1e-2, gt=0)
    """Peak learning rate of the head in the first round: above that of one long run, since each
    replica makes few steps and the mean of several is less noisy (Goyal et al., 2017)."""
    replicas: int = Field(4, ge=2)
    """Parts of the labelled items; fewer if there are fewer groups of items or steps."""
    rounds: int = Field(4, ge=1)
    """Merges; fewer if a replica would take less than 5 steps in a round."""
    merge: Literal["uniform", "weighted", "greedy", "clipped"] = "uniform"
    """The mean of all replicas, the mean by their items, the greedy soup, or the mean of clipped
    updates."""
    clip: float = Field(1.0, gt=0)
    """For `clipped`: the longest update, as a multiple of the median length of the replicas'."""
    server_rate: float = Field(1.0, gt=0)
    """For `clipped`: the step along the mean update; 1 goes to the mean."""
    held: float = Field(0.2, ge=0, le=0.5)
    """Share of the labelled items that no replica trains on and that the merge is checked on; the
    nearest of 1/2, 1/3, 1/4, ... is taken. At 0 each replica is evaluated on the parts of the
    others, and the merge of all but one on the part of that one; unreliable below three parts."""
    few: int = Field(500, ge=0)
    """Labelled items below which none is held out."""

    def train(self, job: Job) -> Trained:
        given(job.knowledge)
        judge = _Judge(job.network(), self._cut(job), job.recipe)
        ready = self.prepare(job.network(), job.knowledge, job.class_names)
        merged: State = ready.network.state_dict()
        rounds = _phases(job.recipe.training.steps, judge.cut.count, self.rounds)
        for i, steps in enumerate(rounds):
            start, peak = merged, _peak(i, len(rounds))
            ends = {
                k: self._trained(job, start, judge.cut.take(k), n, peak)
                for k, n in enumerate(steps)
            }
            merged = self._merged(start, ends, judge)
        kept, summary = self._verdict(start, ends, merged, judge)
        counts = {"replicas": float(len(ends)), "rounds": float(len(rounds))}
        return Trained(judge.settled(kept), ready.transfers, notes={"merge": summary, **counts})

    def _cut(self, job: Job) -> _Cut:
        items, held = job.labelled, np.zeros(len(job.labelled), dtype=bool)
        if self.held > 0 and len(items) >= self.few:
            held = _held(items, round(1 / self.held), job.seed)
        trained = items.take(~held)
        most = min(self.replicas, job.recipe.training.steps)
        return _Cut(trained, _parts(trained, most, job.seed), items.take(held))

    def _trained(self, job: Job, start: State, part: TrainItems, steps: int, peak: float) -> State:
        ready = self.prepare(job.network(), job.knowledge, job.class_names)
        ready.network.load_state_dict(start)
        ready.rates = [(parameters, rate * peak) for parameters, rate in ready.rates]
        network = job.fit(self, ready, part, share=steps / job.recipe.training.steps)
        return network.state_dict()

    def _merged(self, start: State, ends: Mapping[int, State], judge: "_Judge") -> State:
        states = list(ends.values())
        if self.merge == "weighted":
            return merge.weighted(states, [int((judge.cut.part == k).sum()) for k in ends])
        if self.merge == "greedy":
            return merge.greedy_soup(states, lambda state: float(judge.right(state).mean()))[0]
        if self.merge == "clipped":
            limit = self.clip * median(merge.length(merge.update(start, s)) for s in states)
            return merge.clipped_average(start, states, limit, self.server_rate)
        return merge.uniform(states)

    def _verdict(
        self, start: State, ends: Mapping[int, State], merged: State, judge: "_Judge"
    ) -> tuple[State, str]:
        """The weights to keep, and a note on the merge."""
        rights = np.stack([judge.right(state) for state in ends.values()])
        if len(judge.cut.held) or len(ends) == 1:
            best = int(rights.mean(axis=1).argmax())
            single, whole = float(rights[best].mean()), float(judge.right(merged).mean())
        else:
            best, single = best_beside(rights, judge.cut.part)
            whole = self._left_out(start, ends, judge)
        summary = f"{whole:.4f} of {rights.shape[1]} items right, {single:.4f} by the best replica"
        if whole < single:
            return ends[best], f"refused: {summary}"
        return merged, f"merged: {summary}"

    def _left_out(self, start: State, ends: Mapping[int, State], judge: "_Judge") -> float:
        """Share of items that are right, those of each part by the merge of the other replicas."""
        right = 0
        for left in ends:
            others = {k: state for k, state in ends.items() if k != left}
            right += judge.right(self._merged(start, others, judge), judge.cut.take(left)).sum()
        return float(right / len(judge.cut.part))


class _Judge:
    """Evaluates weights: which items they get right, with statistics of all items trained on."""

    def __init__(self, network: Network, cut: _Cut, recipe: Recipe) -> None:
        self.network = network.to(recipe.machine.device).requires_grad_(False)
        self.cut, self.recipe = cut, recipe

    def settled(self, state: State) -> Network:
        """The network of this judge with these weights; each call changes the same network."""
        self.network.load_state_dict(state)
        measure(self.network, self.cut.trained.records, self.recipe)
        return self.network

    def right(self, state: State, items: TrainItems | None = None) -> NDArray[np.bool_]:
        """Which of these items are right (N bool); default: those held out, or all if none are."""
        if items is None:
            items = self.cut.held if len(self.cut.held) else self.cut.trained
        scores = logits(self.settled(state), items.records, self.recipe)
        right: NDArray[np.bool_] = (scores.argmax(dim=1) == items.labels).numpy()
        return right


def best_beside(right: NDArray[np.bool_], part: NDArray[np.int64]) -> tuple[int, float]:
    """The best replica on the parts of the others, and the accuracy of that choice.

    The figure is cross-validated: for each part the best of the other replicas is chosen on the
    parts that neither this one nor the replica trained on, and its right items are counted. The
    best of k noisy figures would be too optimistic.

    Args:
        right: (k, N) whether a replica is right on an item.
        part: (N,) the replica that trained on the item.

    Returns:
        The replica's number, and the share of the N items that are right, 0..1.
    """

    def share(k: int, left: int) -> float:
        beside = (part != k) & (part != left)
        return float(right[k, beside].mean()) if beside.any() else 0.0

    replicas, counted = range(len(right)), 0
    for left in replicas:
        chosen = max((k for k in replicas if k != left), key=lambda k: share(k, left))
        counted += int(right[chosen, part == left].sum())
    return max(replicas, key=lambda k: share(k, k)), counted / len(part)


def measure(network: Network, records: Records, recipe: Recipe) -> None:
    """Measure batch normalisation's running statistics anew, in place: means over batches.

    Averaged weights need it (Izmailov et al., UAI 2018). The records, (N, ...) as stored, are not
    augmented; the network is left in evaluation mode.
    """
    layers = list(batch_norms(network.eval()).values())
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad(), recipe.machine.autocast():
        for part in records.split(network.backbone.chunk) if layers else ():
            network(to_input(part, recipe))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()


def _peak(i: int, rounds: int) -> float:
    """Peak of round i, as a share of the learning rate."""
    return (1 + math.cos(math.pi * i / rounds)) / 2


def _held(items: TrainItems, parts: int, seed: int) -> NDArray[np.bool_]:
    """One part of N items (N bool), without groups of classes that would be held out completely."""
    labels = items.labels.numpy()
    held = folds.assign(labels, items.groups.tolist(), parts, seed) == 0
    alone = held & ~np.isin(labels, labels[~held])
    return held & ~np.isin(items.groups, items.groups[alone])


def _parts(items: TrainItems, most: int, seed: int) -> NDArray[np.int64]:
    """The part of each of N items: at most ``most`` parts with like shares of classes, none empty,
    no group cut."""
    part = folds.assign(items.labels.numpy(), items.groups.tolist(), most, seed)
    return np.unique(part, return_inverse=True)[1]


def _phases(steps: int, replicas: int, rounds: int) -> list[list[int]]:
    """Steps of every replica in every round; their sum is ``steps``."""
    rounds = max(1, min(rounds, steps // (replicas * LEAST)))
    phases = rounds * replicas
    ends = [steps * i // phases for i in range(phases + 1)]
    each = [end - start for start, end in pairwise(ends)]
    return [each[i : i + replicas] for i in range(0, phases, replicas)]


METHOD = Replicas
