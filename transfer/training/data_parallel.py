"""One training by several processes, with the result of one: each takes its rows of every batch.

Every process draws the whole batch with the same random generator as a single process would, and
keeps its own rows. Losses are means over all rows, gradients are averaged by torch's
DistributedDataParallel, and batch normalisation uses the mean and variance over the rows of all
processes, which torch's own SyncBatchNorm does not do on CPUs. The only remaining difference is
the order of sums, that is, rounding.

Shapes: B rows of a batch, b of them in this process, C channels, N items, K classes.
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
        sums = torch.cat([dweight, dbias])  # of dy (x - mean) s and of dy, in this process
        distributed.all_reduce(sums)
        of_product, of_dy = (sums / count).chunk(2)
        scale = (variance + ctx.eps).rsqrt()
        slope = weight * scale.square() * of_product
        level = weight * scale * of_dy - slope * mean
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        dx.sub_(level.view(shape).to(dx)).addcmul_(x, slope.view(shape).to(x), value=-1)
        return dx, dweight, dbias, None


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C), variance (C) and number of values per channel (1), over all processes."""
    # As torch's own normalisation does: var_mean takes ten times as long in channels-last order.
    mean, variance = torch.ops.aten.batch_norm_update_stats(x.float(), None, None, 0.0)
    own = torch.cat([mean, variance, mean.new_tensor([x.numel() / x.shape[1]])]).double()
    gathered = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, own)
    means, variances, counts = torch.stack(gathered).split([len(mean), len(mean), 1], dim=1)
    shares = counts / counts.sum()
    mean_of_all = (shares * means).sum(0)
    variance_of_all = (shares * (variances + (means - mean_of_all).square())).sum(0)
    return mean_of_all.to(mean), variance_of_all.to(mean), counts.sum(0).to(mean)


class _SyncedBatchNorm(_BatchNorm):
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


class _SyncedBatchNorm1d(_SyncedBatchNorm, nn.BatchNorm1d):
    pass


class _SyncedBatchNorm2d(_SyncedBatchNorm, nn.BatchNorm2d):
    pass


class _SyncedBatchNorm3d(_SyncedBatchNorm, nn.BatchNorm3d):
    pass


_SYNCED: dict[type[nn.Module], type[_SyncedBatchNorm]] = {
    nn.BatchNorm1d: _SyncedBatchNorm1d,
    nn.BatchNorm2d: _SyncedBatchNorm2d,
    nn.BatchNorm3d: _SyncedBatchNorm3d,
}


def _sync_batch_norms(module: nn.Module) -> None:
    """Make every batch normalisation within a module use the rows of all processes."""
    for layer in module.modules():
        if (synced := _SYNCED.get(type(layer))) is not None:
            layer.__class__ = synced


class _Shared(Method):
    """A method whose loss each process computes on its own rows."""

    whole: SerializeAsAny[Method]
    """The method, as a single process would use it."""
    _parallel: DistributedDataParallel | None = PrivateAttr(None)

    def prepare(self, *args: Any) -> Prepared:
        return self.whole.prepare(*args)

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        if self._parallel is None:  # here, because the loop moves the network before its first step
            self._parallel = DistributedDataParallel(prepared.network, forward_sync_buffers=False)
        inputs, targets = _own(batch.inputs), _own(batch.targets)
        parallel = replace(prepared, network=self._parallel)  # type: ignore[arg-type]
        terms = self.whole.loss(parallel, Batch(inputs, targets), progress)
        share = len(targets) / len(batch.targets)
        return _means({name: term.float() * share for name, term in terms.items()})

    def finish(self, prepared: Prepared) -> Network:
        return self.whole.finish(prepared)


def _own(rows: Tensor) -> Tensor:
    """The rows (b) of this process, out of all rows (B)."""
    parts = rows.tensor_split(distributed.get_world_size())
    return parts[distributed.get_rank()]


def _means(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Terms whose values are means over all rows. So are their gradients, after DDP has averaged
    them over the processes."""
    size = distributed.get_world_size()
    values = torch.stack([term.detach() for term in terms.values()])
    distributed.all_reduce(values)
    return {
        name: term * size + (value - term.detach() * size)
        for (name, term), value in zip(terms.items(), values, strict=True)
    }


def _logits(network: Network, records: Records, recipe: Recipe) -> Tensor:
    """Class scores (N, K); each process computes its own rows."""
    scores = torch.zeros(len(records), network.head.out_features)
    if len(own := _own(torch.arange(len(records)))):
        scores[own] = logits(network, taken(records, own.numpy()), recipe)
    distributed.all_reduce(scores)
    return scores


class _FirstKeeps(Keeper):
    """The first process stores checkpoints; all processes continue from its checkpoint."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__(keeper.path, keeper.seconds)
        self._keeper, self._first = keeper, distributed.get_rank() == 0

    def due(self) -> bool:
        return self._first and self._keeper.due()

    def save(self, state: dict[str, object]) -> None:
        if self._first:
            self._keeper.save(state)

    def load(self) -> dict[str, object] | None:
        states = [self._keeper.load() if self._first else None]
        distributed.broadcast_object_list(states)
        return states[0]


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

    Checkpoints are those of `fit`: one process can continue from a checkpoint of several processes,
    and the reverse.

    Raises:
        ValueError: the method reads a source or a pool, whose rows cannot be divided, or a batch
            has fewer rows than there are processes.
        TypeError: ``items`` are not training items.
        CrosstrainError: training diverged: a loss is not finite.
    """
    if method.reads_source or method.reads_pool:
        raise ValueError(f"{type(method).__name__} reads more than labelled items")
    if recipe.training.batch_size < (size := distributed.get_world_size()):
        raise ValueError(f"found {size} processes for batches of {recipe.training.batch_size}")
    _sync_batch_norms(prepared.network)
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
