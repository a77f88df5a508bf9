"""The training loop, which all methods and the pretraining use."""

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
    """Evaluates validation items during training, keeps the best weights, and stops early.

    Every ``every`` steps the validation loss is computed; training stops after ``patience``
    evaluations without a lower loss.
    """

    items: TrainItems
    every: int
    patience: int
    score: Callable[[Network, Records, Recipe], Tensor] = logits
    """Computes class scores (N, K) of the items' records."""


@dataclass(frozen=True)
class Beside:
    """The data that a method reads besides the target's labelled items."""

    source: SourceItems | None = None
    pool: PoolItems | None = None


ALONE = Beside()


def _on(device: str, method: Method, beside: Beside) -> Beside:
    """The part of the data that the method reads, on the device."""
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
        method: computes the loss and finishes the network.
        prepared: the network, its parameter groups and learning rates.
        items: labelled items to learn from; never the test split. There may be none where the
            method reads the source or the pool.
        recipe: optimisation, augmentation, normalisation and machine.
        seed: for the order of items and for augmentation.
        beside: items of the source and unlabelled items, for a method that reads them.
        features: (V, N, D) of a frozen backbone; batches are then drawn from these.
        watch: validation items for early stopping; the best weights are kept.
        keeper: stores checkpoints; an interrupted run continues from the last checkpoint.
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
            loop.evaluate(watch)
            if loop.evaluations_since_best() >= watch.patience:
                break
        if keeper and keeper.due():
            keeper.save(loop.snapshot())
            saved = loop.step
        if on_step:
            on_step(loop.step, training.steps)
    if keeper and saved != loop.step:  # a later phase may fail: this phase is not repeated
        keeper.save(loop.snapshot())
    return loop.close(), loop.history


@dataclass(frozen=True)
class _Rows:
    """Row numbers that one step takes from each set of items."""

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
        self._loss, self._samples = torch.zeros((), device=device), 0
        self._trained = self._trained_tensors()
        self._set_training_mode()

    def rows(self) -> Iterator[_Rows]:
        """Rows of each remaining step; each set of items has its own epochs."""
        size = self.recipe.training.batch_size
        streams = (
            (len(self.items), size, 0),
            (len(self.beside.source.items) if self.beside.source else 0, size, 1),
            (len(self.beside.pool or ()), self.prepared.pool_batch or size, 2),
        )
        return (
            _Rows(*parts) for parts in zip(*(self._stream(*args) for args in streams), strict=True)
        )

    def _stream(self, n: int, size: int, stream: int) -> Iterator[Tensor]:
        steps = self.recipe.training.steps
        if not n:
            return repeat(torch.empty(0, dtype=torch.long), steps - self.step)
        return batches(n, size, self.seed + stream * 1_000_003, self.step, steps)

    def _batch(self, rows: _Rows) -> Batch:
        labelled = self._labelled(rows.items)
        source, pool = self.beside.source, self.beside.pool
        if source:
            batch = source_batch(source, rows.source, self.recipe, self.seed, self.step)
            targets = _smooth(batch.targets, self.recipe.training.label_smoothing)
            labelled = replace(labelled, source=replace(batch, targets=targets))
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

    def _set_training_mode(self) -> None:
        """Put what is trained into training mode; visits all modules, so not done at every step."""
        self.network.train()
        self.prepared.hold()

    def advance(self, rows: _Rows) -> None:
        """Make one optimiser step."""
        training, progress = self.recipe.training, self.step / self.recipe.training.steps
        rate = one_cycle(progress, training.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        if not self.network.training:
            self._set_training_mode()
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
            self.average.update(self._trained)
        self._record(loss.detach(), sum(len(part) for part in vars(rows).values()))

    def _record(self, loss: Tensor, n: int) -> None:
        self._loss, self._samples = self._loss + loss * n, self._samples + n
        if self.step % max(1, self.recipe.training.steps // 50) == 0:
            self._add_to_history()

    def _add_to_history(self) -> None:
        """Append the mean loss since the last entry to the curve."""
        self.history.step.append(self.step)
        self.history.loss.append(_finite(float(self._loss) / self._samples, "loss", self.step))
        self._loss, self._samples = torch.zeros_like(self._loss), 0

    def evaluate(self, watch: Watch) -> None:
        """Compute the loss of the validation items with the weights that would be kept now."""
        check_trainable(watch.items)
        current = self._swap_in(self.average.state)
        scores = watch.score(self.network, watch.items.records, self.recipe)
        loss = float(functional.cross_entropy(scores, watch.items.labels))
        _finite(loss, "validation loss", self.step)
        accuracy = float((scores.argmax(1) == watch.items.labels).float().mean())
        if loss < min(self.history.validation_loss, default=math.inf):
            self.best = {k: v.detach().clone() for k, v in self._trained.items()}
        self._swap_in(current)
        self.history.validation_step.append(self.step)
        self.history.validation_loss.append(loss)
        self.history.validation_accuracy.append(accuracy)

    def evaluations_since_best(self) -> int:
        """Number of validation evaluations after the one with the lowest loss."""
        losses = self.history.validation_loss
        return len(losses) - 1 - losses.index(min(losses))

    def _swap_in(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Load tensors if there are any, and return the previous tensors."""
        before = {k: v.detach().clone() for k, v in self._trained.items()}
        if state:
            with torch.no_grad():
                for name, tensor in self._trained.items():
                    tensor.copy_(state[name])
        return before

    def _trained_tensors(self) -> dict[str, Tensor]:
        """Tensors of the network that change, and parameters that are trained with it; steps and
        restored checkpoints change them in place."""
        state = {k: v for k, v in self.network.state_dict().items() if k not in self.frozen}
        trained = {id(p) for parameters, _ in self.prepared.rates for p in parameters}
        helpers = self.prepared.helpers.named_parameters()
        with_network = {f"helpers.{name}": p for name, p in helpers if id(p) in trained}
        return {**state, **with_network}

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
            "running": [float(self._loss), self._samples],
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
        self._loss, self._samples = torch.full_like(self._loss, running[0]), int(running[1])

    def close(self) -> Network:
        """Load the weights to keep and let the method finish."""
        if self._samples:
            self._add_to_history()
        self._swap_in(self.best or self.average.state)
        self.frozen.check()
        network = self.method.finish(self.prepared)
        network.requires_grad_(False)
        return network.eval()
