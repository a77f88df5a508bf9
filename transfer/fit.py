"""The one training loop: every method and the pretraining run through it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer.arrays import TrainItems
from transfer.checkpoint import Keeper
from transfer.errors import CrosstrainError
from transfer.feed import batches, generator, logits, training_batch
from transfer.method import Batch, Method, Prepared
from transfer.network import Network
from transfer.recipe import Recipe, one_cycle


@dataclass(frozen=True)
class Watch:
    """Look at validation items during training, keep the best weights, stop when they age."""

    items: TrainItems
    every: int
    patience: int


@dataclass
class History:
    """Curves of a training run: step numbers from 1, mean losses over samples since the last."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    validation_step: list[int] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)


def _optimiser(prepared: Prepared, decay: float) -> torch.optim.AdamW:
    groups = []
    for parameters, rate in prepared.rates:
        for is_matrix in (True, False):
            chosen = [p for p in parameters if (p.dim() > 1) == is_matrix]
            if chosen:
                groups.append(
                    {"params": chosen, "peak": rate, "weight_decay": decay if is_matrix else 0.0}
                )
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


class _Average:
    """Exponential moving average of every tensor of a network, started late."""

    def __init__(self, decay: float, state: dict[str, Tensor] | None = None) -> None:
        self.decay, self.state = decay, state or {}

    def update(self, network: nn.Module) -> None:
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point() or name not in self.state:
                self.state[name] = tensor.detach().clone()
            else:
                self.state[name].lerp_(tensor, 1 - self.decay)


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
    features: Tensor | None = None,
    watch: Watch | None = None,
    keeper: Keeper | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[Network, History]:
    """Train a prepared network and return it finished, in evaluation mode, with its curves.

    Args:
        method: supplies the loss and the last move.
        prepared: the network, its parameter groups and learning rates.
        items: what to learn from; never the test split.
        recipe: budget, augmentation, normalisation and machine.
        seed: of the order of items and of augmentation.
        features: (V, N, D) of a frozen body; batches are then drawn from these.
        watch: validation items for early stopping; the best weights are kept.
        keeper: where to keep checkpoints; an interrupted run continues from there.
        on_step: called with (steps done, steps in all) now and then.

    Raises:
        TypeError: ``items`` are not training items.
        CrosstrainError: training diverged: a loss is not finite.
    """
    check_trainable(items)
    loop = _Loop(method, prepared, items, recipe, seed, features)
    if keeper and (state := keeper.load()):
        loop.restore(state)
    budget = recipe.budget
    for rows in batches(len(items), budget.batch_size, seed, loop.step, budget.steps):
        loop.advance(rows)
        if watch and (loop.step % watch.every == 0 or loop.step == budget.steps):
            loop.look(watch)
            if loop.age(watch) >= watch.patience:
                break
        if keeper and keeper.due():
            keeper.save(loop.snapshot())
        if on_step and loop.step % 50 == 0:
            on_step(loop.step, budget.steps)
    return loop.close(), loop.history


class _Loop:
    """The state of one training run between two steps."""

    def __init__(
        self,
        method: Method,
        prepared: Prepared,
        items: TrainItems,
        recipe: Recipe,
        seed: int,
        features: Tensor | None,
    ) -> None:
        self.method, self.prepared, self.items = method, prepared, items
        self.recipe, self.seed, self.features = recipe, seed, features
        device = recipe.machine.device
        self.network = prepared.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        prepared.reference = {name: t.to(device) for name, t in prepared.reference.items()}
        self.optimiser = _optimiser(prepared, recipe.budget.weight_decay)
        self.average = _Average(recipe.budget.average)
        self.best: dict[str, Tensor] = {}
        self.history = History()
        self.step = 0
        self._loss, self._seen = torch.zeros((), device=device), 0

    def _batch(self, rows: Tensor) -> Batch:
        if self.features is None:
            return training_batch(self.items, rows, self.recipe, self.seed, self.step)
        views = torch.randint(
            len(self.features), (len(rows),), generator=generator(self.seed, self.step, 3)
        )
        targets = functional.one_hot(self.items.labels[rows], self.recipe.classes).float()
        return Batch(self.features[views, rows], targets.to(self.features.device))

    def advance(self, rows: Tensor) -> None:
        """Make one step of the optimiser."""
        budget, progress = self.recipe.budget, self.step / self.recipe.budget.steps
        rate = one_cycle(progress, budget.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        self.network.train()
        if self.prepared.views:
            self.network.backbone.eval()
        batch = self._batch(rows)
        smoothed = Batch(batch.inputs, _smooth(batch.targets, budget.label_smoothing))
        with self.recipe.machine.autocast():
            terms = self.method.loss(self.prepared, smoothed, progress)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.step += 1
        if budget.average and progress >= budget.average_from:
            self.average.update(self.network)
        self._record(loss.detach(), len(rows))

    def _record(self, loss: Tensor, n: int) -> None:
        self._loss, self._seen = self._loss + loss * n, self._seen + n
        if self.step % max(1, self.recipe.budget.steps // 50) == 0:
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
        scores = logits(self.network, watch.items.images, self.recipe)
        loss = float(functional.cross_entropy(scores, watch.items.labels))
        _finite(loss, "validation loss", self.step)
        right = float((scores.argmax(1) == watch.items.labels).float().mean())
        if loss < min(self.history.validation_loss, default=math.inf):
            self.best = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
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
        before = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        if state:
            self.network.load_state_dict(state)
        return before

    def snapshot(self) -> dict[str, object]:
        """Everything that the next step depends on."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state,
            "best": self.best,
            "history": vars(self.history),
            "running": [float(self._loss), self._seen],
        }

    def restore(self, state: dict[str, object]) -> None:
        """Continue from a snapshot."""
        self.step = int(state["step"])  # type: ignore[call-overload]
        self.network.load_state_dict(state["network"])
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
        network = self.method.finish(self.prepared)
        network.requires_grad_(False)
        return network.eval()
