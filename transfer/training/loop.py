"""The one training loop: every method and the pretraining run through it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat

import torch
from torch import Tensor
from torch.nn import functional

from transfer.core.errors import CrosstrainError
from transfer.data.items import PoolItems, SourceItems, TrainItems
from transfer.data.storage.tensor_store import Records
from transfer.modalities import lookup
from transfer.models.checkpoint import Keeper
from transfer.models.network import Network
from transfer.training.batches import (
    batches,
    generator,
    logits,
    pool_batch,
    resident,
    source_batch,
    to_input,
    training_batch,
)
from transfer.training.frozen import Frozen
from transfer.training.history import History
from transfer.training.method import Batch, Method, Prepared
from transfer.training.optimiser import Average, optimiser
from transfer.training.recipe import Recipe, one_cycle


@dataclass(frozen=True)
class Watch:
    """Look at validation items during training, keep the best weights, stop when they age."""

    items: TrainItems
    every: int
    patience: int
    score: Callable[[Network, Records, Recipe], Tensor] = logits
    """Gives class scores (N, K) of the items' records."""


@dataclass(frozen=True)
class Beside:
    """What a method reads beside the target's labelled items."""

    source: SourceItems | None = None
    pool: PoolItems | None = None


ALONE = Beside()


def _on(device: str, method: Method, beside: Beside) -> Beside:
    """What a method reads of what there is, on the device."""
    source = beside.source if method.reads_source else None
    pool = beside.pool if method.reads_pool else None
    return Beside(
        replace(source, items=resident(source.items, device)) if source else None,
        resident(pool, device) if pool else None,
    )


def _smooth(targets: Tensor, share: float) -> Tensor:
    return targets * (1 - share) + share / targets.shape[1]


def _finite(loss: float, what: str, step: int) -> float:
    if not math.isfinite(loss):
        raise CrosstrainError(
            f"the {what} is {loss} at step {step}; expected a finite number: training diverged, "
            "lower its learning rate"
        )
    return loss


def check_trainable(items: TrainItems) -> None:
    """Refuse anything but training items, whatever a caller without a type checker does.

    Raises:
        TypeError: the items are not `TrainItems`, for example the test split.
    """
    if not isinstance(items, TrainItems):
        raise TypeError(f"training takes TrainItems, not {type(items).__name__}")


def fit(
    method: Method,
    prepared: Prepared,
    items: TrainItems,
    recipe: Recipe,
    *,
    seed: int,
    beside: Beside = ALONE,
    features: Tensor | None = None,
    watch: Watch | None = None,
    keeper: Keeper | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[Network, History]:
    """Train a prepared network and return it finished, in evaluation mode, with its curves.

    Args:
        method: supplies the loss and the last move.
        prepared: the network, its parameter groups and learning rates.
        items: what to learn from; never the test split. None may be labelled where the method
            reads the source or the pool.
        recipe: optimisation, augmentation, normalisation and machine.
        seed: of the order of items and of augmentation.
        beside: items of the source and unlabelled items, for a method that reads them.
        features: (V, N, D) of a frozen backbone; batches are then drawn from these.
        watch: validation items for early stopping; the best weights are kept.
        keeper: where to keep checkpoints; an interrupted run continues from there.
        on_step: called with (steps done, steps in all) after every step.

    Raises:
        TypeError: ``items`` are not training items.
        ValueError: what the method declares frozen contradicts what it trains; see `Frozen`.
        CrosstrainError: training diverged: a loss is not finite; or the method changed what it
            declares frozen.
    """
    check_trainable(items)
    loop = _Loop(method, prepared, items, recipe, seed, beside, features)
    if keeper and (state := keeper.load()):
        loop.restore(state)
    training, saved = recipe.training, loop.step
    for rows in loop.rows():
        loop.advance(rows)
        if watch and (loop.step % watch.every == 0 or loop.step == training.steps):
            loop.look(watch)
            if loop.age(watch) >= watch.patience:
                break
        if keeper and keeper.due():
            keeper.save(loop.snapshot())
            saved = loop.step
        if on_step:
            on_step(loop.step, training.steps)
    if keeper and saved != loop.step:  # a later phase may die: this one is not made again
        keeper.save(loop.snapshot())
    return loop.close(), loop.history


@dataclass(frozen=True)
class _Rows:
    """What one step takes from each set of items."""

    items: Tensor
    source: Tensor
    pool: Tensor


class _Loop:
    """The state of one training run between two steps."""

    def __init__(
        self,
        method: Method,
        prepared: Prepared,
        items: TrainItems,
        recipe: Recipe,
        seed: int,
        beside: Beside,
        features: Tensor | None,
    ) -> None:
        device = recipe.machine.device
        self.method, self.prepared, self.items = method, prepared, resident(items, device)
        self.recipe, self.seed = recipe, seed
        self.features = None if features is None else features.to(device)
        self._targets = None if features is None else self._smoothed(self.items.labels).to(device)
        self.beside = _on(device, method, beside)
        self.network = prepared.network.to(device)
        lookup.of(recipe.spec).lay_out_network(self.network)
        prepared.helpers.to(device)
        prepared.reference = {name: t.to(device) for name, t in prepared.reference.items()}
        self.frozen = Frozen(prepared, type(method).__name__)
        decay = recipe.training.weight_decay if prepared.decays else 0.0
        self.optimiser = optimiser(prepared, decay)
        self.average = Average(recipe.training.average)
        self.best: dict[str, Tensor] = {}
        self.history = History()
        self.step = 0
        self._loss, self._seen = torch.zeros((), device=device), 0
        self._kept = self._learned()
        self._learn()

    def rows(self) -> Iterator[_Rows]:
        """Rows of each step from this one on: passes over each set at its own pace."""
        size = self.recipe.training.batch_size
        counts = (
            (len(self.items), size, 0),
            (len(self.beside.source.items) if self.beside.source else 0, size, 1),
            (len(self.beside.pool or ()), self.prepared.pool_batch or size, 2),
        )
        return (_Rows(*parts) for parts in zip(*(self._stream(*c) for c in counts), strict=True))

    def _stream(self, n: int, size: int, which: int) -> Iterator[Tensor]:
        steps = self.recipe.training.steps
        if not n:
            return repeat(torch.empty(0, dtype=torch.long), steps - self.step)
        return batches(n, size, self.seed + which * 1_000_003, self.step, steps)

    def _batch(self, rows: _Rows) -> Batch:
        labelled = self._labelled(rows.items)
        source, pool = self.beside.source, self.beside.pool
        if source:
            drawn = source_batch(source, rows.source, self.recipe, self.seed, self.step)
            smooth = _smooth(drawn.targets, self.recipe.training.label_smoothing)
            labelled = replace(labelled, source=replace(drawn, targets=smooth))
        if pool:
            strong = self.prepared.strong
            views = pool_batch(pool, rows.pool, self.recipe, strong, self.seed, self.step)
            labelled = replace(labelled, pool=views)
        return labelled

    def _labelled(self, rows: Tensor) -> Batch:
        if not len(rows):
            empty = to_input(self.items.records[:0], self.recipe)
            targets = torch.zeros(0, self.recipe.classes, device=empty.device)
            return Batch(empty, targets)
        if self.features is not None:
            return self._embedded(rows)
        batch = training_batch(self.items, rows, self.recipe, self.seed, self.step)
        return replace(batch, targets=_smooth(batch.targets, self.recipe.training.label_smoothing))

    def _smoothed(self, labels: Tensor) -> Tensor:
        targets = functional.one_hot(labels, self.recipe.classes).float()
        return _smooth(targets, self.recipe.training.label_smoothing)

    def _embedded(self, rows: Tensor) -> Batch:
        assert self.features is not None and self._targets is not None
        views = torch.randint(
            len(self.features), (len(rows),), generator=generator(self.seed, self.step, 3)
        )
        return Batch(self.features[views, rows], self._targets[rows])

    def _learn(self) -> None:
        """Switch to training what is trained; a walk over all modules, so not at every step."""
        self.network.train()
        self.prepared.hold()

    def advance(self, rows: _Rows) -> None:
        """Make one step of the optimiser."""
        training, progress = self.recipe.training, self.step / self.recipe.training.steps
        rate = one_cycle(progress, training.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        if not self.network.training:
            self._learn()
        batch = self._batch(rows)
        with self.recipe.machine.autocast():
            terms = self.method.loss(self.prepared, batch, progress)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.method.after_step(self.prepared, progress)
        self.step += 1
        if training.average and progress >= training.average_from:
            self.average.update(self._kept)
        self._record(loss.detach(), sum(len(part) for part in vars(rows).values()))

    def _record(self, loss: Tensor, n: int) -> None:
        self._loss, self._seen = self._loss + loss * n, self._seen + n
        if self.step % max(1, self.recipe.training.steps // 50) == 0:
            self._note()

    def _note(self) -> None:
        """Add the mean loss since the last entry to the curve."""
        self.history.step.append(self.step)
        self.history.loss.append(_finite(float(self._loss) / self._seen, "loss", self.step))
        self._loss, self._seen = torch.zeros_like(self._loss), 0

    def look(self, watch: Watch) -> None:
        """Score the validation items with the weights that would be kept now."""
        check_trainable(watch.items)
        kept = self._swap_in(self.average.state)
        scores = watch.score(self.network, watch.items.records, self.recipe)
        loss = float(functional.cross_entropy(scores, watch.items.labels))
        _finite(loss, "validation loss", self.step)
        right = float((scores.argmax(1) == watch.items.labels).float().mean())
        if loss < min(self.history.validation_loss, default=math.inf):
            self.best = {k: v.detach().clone() for k, v in self._kept.items()}
        self._swap_in(kept)
        self.history.validation_step.append(self.step)
        self.history.validation_loss.append(loss)
        self.history.validation_accuracy.append(right)

    def age(self, watch: Watch) -> int:
        """Looks since the best one."""
        losses = self.history.validation_loss
        return len(losses) - 1 - losses.index(min(losses))

    def _swap_in(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Load tensors if there are any, and return those that were there before."""
        before = {k: v.detach().clone() for k, v in self._kept.items()}
        if state:
            with torch.no_grad():
                for name, tensor in self._kept.items():
                    tensor.copy_(state[name])
        return before

    def _learned(self) -> dict[str, Tensor]:
        """Tensors of the network that change, and parameters that are trained beside it; steps
        and restored checkpoints change them in place."""
        state = {k: v for k, v in self.network.state_dict().items() if k not in self.frozen}
        trained = {id(p) for parameters, _ in self.prepared.rates for p in parameters}
        helpers = self.prepared.helpers.named_parameters()
        beside = {f"helpers.{name}": p for name, p in helpers if id(p) in trained}
        return {**state, **beside}

    def snapshot(self) -> dict[str, object]:
        """Everything that the next step depends on."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "helpers": self.prepared.helpers.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state,
            "best": self.best,
            "history": vars(self.history),
            "running": [float(self._loss), self._seen],
        }

    def restore(self, state: dict[str, object]) -> None:
        """Continue from a snapshot."""
        self.step = int(state["step"])  # type: ignore[call-overload]
        self.network.load_state_dict(state["network"])  # type: ignore[arg-type]
        self.prepared.helpers.load_state_dict(state["helpers"])  # type: ignore[arg-type]
        self.optimiser.load_state_dict(state["optimiser"])  # type: ignore[arg-type]
        average: dict[str, Tensor] = state["average"]  # type: ignore[assignment]
        self.average.state = {k: v.to(self.recipe.machine.device) for k, v in average.items()}
        self.best = state["best"]  # type: ignore[assignment]
        self.history = History(**state["history"])  # type: ignore[arg-type]
        running: list[float] = state["running"]  # type: ignore[assignment]
        self._loss, self._seen = torch.full_like(self._loss, running[0]), int(running[1])

    def close(self) -> Network:
        """Put the weights to keep in place and let the method finish."""
        if self._seen:
            self._note()
        self._swap_in(self.best or self.average.state)
        self.frozen.check()
        network = self.method.finish(self.prepared)
        network.requires_grad_(False)
        return network.eval()
