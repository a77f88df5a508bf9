"""One training by several processes, with the result of one: each takes its rows of every batch.

Every process draws the whole batch with the dice of one process, and keeps its rows. Losses are
means over all rows, gradients are averaged by torch's DistributedDataParallel, and batch
normalisation takes the mean and variance over the rows of all processes, which on CPUs torch's own
SyncBatchNorm does not. What is left is the order of sums: rounding.
Shapes: B rows of a batch, b of them this process's, C channels, N items, K classes.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from pydantic import PrivateAttr, SerializeAsAny
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from transfer.data.items import TrainItems
from transfer.data.storage.tensor_store import Records, taken
from transfer.models.checkpoint import Keeper
from transfer.models.network import Network
from transfer.training.batches import logits
from transfer.training.history import History
from transfer.training.loop import Watch, fit
from transfer.training.method import Batch, Method, Prepared
from transfer.training.recipe import Recipe


class _Normalised(torch.autograd.Function):
    """(x - mean) / std * weight + bias, mean and variance over the rows of all processes.

    With N values a channel, s = 1 / std and sums over all processes, the gradient is
    dx = weight s (dy - sum(dy) / N - (x - mean) s^2 sum(dy (x - mean)) / N).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, variance, count = _moments(x)
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        y = functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.cat([dweight, dbias])  # of dy (x - mean) s, and of dy: those of this process
        distributed.all_reduce(sums)
        of_product, of_dy = (sums / count).chunk(2)
        scale = (variance + ctx.eps).rsqrt()
        slope = weight * scale.square() * of_product
        level = weight * scale * of_dy - slope * mean
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        dx.sub_(level.view(shape).to(dx)).addcmul_(x, slope.view(shape).to(x), value=-1)
        return dx, dweight, dbias, None


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C), variance (C) and number of values a channel (1), over all processes."""
    # As torch's own normalisation does: var_mean takes ten times as long in channels-last order.
    mean, variance = torch.ops.aten.batch_norm_update_stats(x.float(), None, None, 0.0)
    own = torch.cat([mean, variance, mean.new_tensor([x.numel() / x.shape[1]])]).double()
    every = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(every, own)
    means, variances, counts = torch.stack(every).split([len(mean), len(mean), 1], dim=1)
    shares = counts / counts.sum()
    whole = (shares * means).sum(0)
    spread = (shares * (variances + (means - whole).square())).sum(0)
    return whole.to(mean), spread.to(mean), counts.sum(0).to(mean)


class _Together(_BatchNorm):
    """Batch normalisation over the rows of all processes; parameters and names stay."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        y, mean, variance, count = _Normalised.apply(input, self.weight, self.bias, self.eps)
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None and self.momentum is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return y


class _Together1d(_Together, nn.BatchNorm1d):
    pass


class _Together2d(_Together, nn.BatchNorm2d):
    pass


class _Together3d(_Together, nn.BatchNorm3d):
    pass


_TOGETHER: dict[type[nn.Module], type[_Together]] = {
    nn.BatchNorm1d: _Together1d,
    nn.BatchNorm2d: _Together2d,
    nn.BatchNorm3d: _Together3d,
}


def _normalise_together(module: nn.Module) -> None:
    """Let every batch normalisation within a module look at the rows of all processes."""
    for layer in module.modules():
        if (together := _TOGETHER.get(type(layer))) is not None:
            layer.__class__ = together


class _Shared(Method):
    """A method of which each process computes the loss on its own rows."""

    whole: SerializeAsAny[Method]
    """The method, as one process would use it."""
    _parallel: DistributedDataParallel | None = PrivateAttr(None)

    def prepare(self, *told: Any) -> Prepared:
        return self.whole.prepare(*told)

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        if self._parallel is None:  # here, because the loop moves the network before its first step
            self._parallel = DistributedDataParallel(prepared.network, forward_sync_buffers=False)
        inputs, targets = _own(batch.inputs), _own(batch.targets)
        ready = replace(prepared, network=self._parallel)  # type: ignore[arg-type]
        terms = self.whole.loss(ready, Batch(inputs, targets), progress)
        share = len(targets) / len(batch.targets)
        return _means({name: term.float() * share for name, term in terms.items()})

    def finish(self, prepared: Prepared) -> Network:
        return self.whole.finish(prepared)


def _own(rows: Tensor) -> Tensor:
    """The rows (b) of this process, of those of all (B)."""
    parts = rows.tensor_split(distributed.get_world_size())
    return parts[distributed.get_rank()]


def _means(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Terms whose values are those over all rows, and whose gradients, once DDP has averaged them
    over the processes, are those over all rows too."""
    size = distributed.get_world_size()
    every = torch.stack([term.detach() for term in terms.values()])
    distributed.all_reduce(every)
    return {
        name: term * size + (value - term.detach() * size)
        for (name, term), value in zip(terms.items(), every, strict=True)
    }


def _logits(network: Network, records: Records, recipe: Recipe) -> Tensor:
    """Class scores (N, K), of which each process computes its rows."""
    scores = torch.zeros(len(records), network.head.out_features)
    if len(own := _own(torch.arange(len(records)))):
        scores[own] = logits(network, taken(records, own.numpy()), recipe)
    distributed.all_reduce(scores)
    return scores


class _FirstKeeps(Keeper):
    """The first process keeps checkpoints; all take up the one that it finds."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__(keeper.path, keeper.seconds)
        self._keeper, self._first = keeper, distributed.get_rank() == 0

    def due(self) -> bool:
        return self._first and self._keeper.due()

    def save(self, state: dict[str, object]) -> None:
        if self._first:
            self._keeper.save(state)

    def load(self) -> dict[str, object] | None:
        found = [self._keeper.load() if self._first else None]
        distributed.broadcast_object_list(found)
        return found[0]


def fit_together(
    method: Method,
    prepared: Prepared,
    items: TrainItems,
    recipe: Recipe,
    *,
    seed: int,
    watch: Watch | None = None,
    keeper: Keeper | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[Network, History]:
    """Train as `fit` does, in every process of torch's default group; all return the same network.

    Checkpoints are those of `fit`: a run of one process takes up that of several, and the reverse.

    Raises:
        ValueError: the method reads a source or a pool, whose rows are not divided, or a batch has
            fewer rows than there are processes.
        TypeError: ``items`` are not training items.
        CrosstrainError: training diverged: a loss is not finite.
    """
    if method.reads_source or method.reads_pool:
        raise ValueError(f"{type(method).__name__} reads more than labelled items")
    if recipe.training.batch_size < (size := distributed.get_world_size()):
        raise ValueError(f"found {size} processes for batches of {recipe.training.batch_size}")
    _normalise_together(prepared.network)
    first = distributed.get_rank() == 0
    return fit(
        _Shared(whole=method),
        prepared,
        items,
        recipe,
        seed=seed,
        watch=replace(watch, score=_logits) if watch else None,
        keeper=_FirstKeeps(keeper) if keeper else None,
        on_step=on_step if first else None,
    )
