"""Reptile: weights from which few steps suffice, meta-learned on episodes of a source.

Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018. An episode draws a
few classes and a few items of each, and takes plain gradient steps with a head of its own,

    theta_(t+1) = theta_t - a * grad L_t(theta_t),    theta_0 = theta,

after which the weights move part of the way, theta <- theta + e (theta_T - theta). First order: no
derivative goes through the steps. The result depends only on the source, the weights and the
settings, so all folds and seeds of a run share it: `Memory` keeps it.

Shapes: M items of an episode, W classes of it, Ks classes of the source.
"""

import copy
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from transfer.core.config import Section
from transfer.core.errors import CrosstrainError, DataRefusedError
from transfer.data.items import SourceItems
from transfer.data.storage.tensor_store import content
from transfer.modalities.backbone import Backbone
from transfer.training.batches import generator, source_batch
from transfer.training.recipe import Recipe

State = dict[str, Tensor]


class Plan(Section):
    """Episodes of Reptile: their number, size and learning rates."""

    episodes: int = Field(60, ge=1)
    """Classification tasks drawn from the source."""
    ways: int = Field(5, ge=2)
    """Classes of an episode; all where the source has fewer."""
    shots: int = Field(5, ge=1)
    """Items a class of an episode; all where a class has fewer."""
    inner_steps: int = Field(5, ge=1)
    """Gradient steps of an episode, each on all of its items, augmented anew."""
    inner_rate: float = Field(0.05, gt=0)
    """Learning rate of these steps, plain gradient descent."""
    outer_rate: float = Field(0.3, gt=0, le=1)
    """Fraction of the way to an episode's weights that the weights move after the first episode; it
    falls linearly, to 0 after the last."""
    seed: int = 0
    """Of classes, items, heads and augmentation; not the arms' seeds, which share the result."""


@dataclass(frozen=True)
class Learned:
    """A meta-learned backbone."""

    state: State
    """The backbone's tensors, on the CPU."""
    items: int
    """Items in the batches of all gradient steps, repeats counted."""


@dataclass(frozen=True)
class Episode:
    """The task of an episode."""

    classes: Tensor  # W indices into the source's classes
    rows: Tensor  # M indices into the source's items


def outer_step(theta: State, end: State, rate: float) -> State:
    """theta + rate * (end - theta) for floating tensors, theta's own for the others."""
    return {
        name: tensor.lerp(end[name], rate) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in theta.items()
    }


def inner_steps(module: nn.Module, loss: Callable[[int], Tensor], steps: int, rate: float) -> None:
    """Plain gradient descent on ``loss(t)``, t from 0 to steps - 1, in place."""
    optimiser = torch.optim.SGD(module.parameters(), lr=rate)
    for t in range(steps):
        optimiser.zero_grad(set_to_none=True)
        loss(t).backward()
        optimiser.step()


def draw(labels: Tensor, plan: Plan, number: int) -> Episode:
    """The classes and items of an episode, by the plan's seed and the episode's number."""
    rng = generator(plan.seed, number, 7)
    present = labels.unique()
    classes = present[torch.randperm(len(present), generator=rng)[: plan.ways]]
    rows = []
    for label in classes:
        own = (labels == label).nonzero().flatten()
        rows.append(own[torch.randperm(len(own), generator=rng)[: plan.shots]])
    return Episode(classes, torch.cat(rows))


def reptile(backbone: Backbone, source: SourceItems, plan: Plan, recipe: Recipe) -> Learned:
    """Meta-learn a backbone, which is left as it was.

    Running statistics of batch normalisation move like weights.

    Raises:
        DataRefusedError: the source's items are of fewer than 2 classes.
        CrosstrainError: the resulting weights are not finite.
    """
    labels = source.items.labels
    if (count := len(labels.unique())) < 2:
        raise DataRefusedError(
            f"found items of {count} class in the source; expected 2 or more classes: "
            "take another source, or leave out the method reptile"
        )
    worker = copy.deepcopy(backbone).to(recipe.machine.device).train()
    theta, items = _clone(worker), 0
    for number in range(plan.episodes):
        episode = draw(labels, plan, number)
        worker.load_state_dict(theta)
        _learn(worker, episode, source, plan, recipe, number)
        rate = plan.outer_rate * (1 - number / plan.episodes)
        theta = outer_step(theta, worker.state_dict(), rate)
        items += plan.inner_steps * len(episode.rows)
    return Learned(_finite({name: tensor.cpu() for name, tensor in theta.items()}), items)


def _learn(
    backbone: Backbone,
    episode: Episode,
    source: SourceItems,
    plan: Plan,
    recipe: Recipe,
    number: int,
) -> None:
    """The gradient steps of one episode, in place."""
    head = _head(backbone.out_features, len(episode.classes), generator(plan.seed, number, 8))
    network = nn.Sequential(backbone, head.to(recipe.machine.device))

    def loss(t: int) -> Tensor:
        step = number * plan.inner_steps + t
        batch = source_batch(source, episode.rows, recipe, plan.seed, step)
        with recipe.machine.autocast():
            scores = network(batch.inputs)
        return functional.cross_entropy(scores.float(), batch.targets[:, episode.classes])

    inner_steps(network, loss, plan.inner_steps, plan.inner_rate)


def _head(features: int, classes: int, rng: torch.Generator) -> nn.Linear:
    """A new head: weights uniform in +-1/sqrt(features), bias 0."""
    head = nn.utils.skip_init(
        nn.Linear, features, classes
    )  # torch's global generator does not advance
    drawn = torch.rand(classes, features, generator=rng)
    with torch.no_grad():
        head.weight.copy_((drawn * 2 - 1) / math.sqrt(features))
        head.bias.zero_()
    return head


def _clone(module: nn.Module) -> State:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _finite(state: State) -> State:
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise CrosstrainError(
                f"Reptile's tensor {name!r} holds numbers that are not finite; expected finite "
                "ones: its steps diverged, lower methods.reptile.meta.inner_rate"
            )
    return state


class Memory:
    """A cache of meta-learned backbones; the key is a digest of weights, source items and settings.

    Threads that need the same backbone wait until the first has computed it. The latest few are
    kept.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._lock = Lock()
        self._locks: dict[str, Lock] = {}
        self._kept: dict[str, Learned] = {}

    def of(self, backbone: Backbone, source: SourceItems, plan: Plan, recipe: Recipe) -> Learned:
        """As `reptile`, computed at most once. The caller must not change the result."""
        key = _key(backbone, source, plan, recipe)
        with self._lock:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            learned = self._kept.get(key) or reptile(backbone, source, plan, recipe)
            self._keep(key, learned)
            return learned

    def _keep(self, key: str, learned: Learned) -> None:
        with self._lock:
            self._kept[key] = learned
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]


MEMORY = Memory()
"""The cache of this process."""


def _key(backbone: Backbone, source: SourceItems, plan: Plan, recipe: Recipe) -> str:
    policy = recipe.source_policy or recipe.policy
    text = f"{type(backbone)} {backbone} {source.normal} {plan} {policy} {recipe.machine}"
    state = backbone.state_dict()
    text += content(source.items.records)
    tensors = {**state, "labels": source.items.labels}
    digest = hashlib.sha256(text.encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.shape} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
