"""Structural regularisation: the channels that the target does not need are switched off and
removed, so that the network is smaller than the source's.

Shapes: L prunable layers of the backbone, C channels of one of them.
"""

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn

from transfer.core.errors import SettingsError
from transfer.modalities.backbone import BackboneSpec
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge, Transfer
from transfer.training.method import Batch, FineTuning, Job, Method, Prepared, Trained, stage_rates

Layers = tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]


@runtime_checkable
class Prunable(Protocol):
    """A backbone that can lose channels; its ``build`` takes the numbers of channels as
    ``widths``."""

    def prunable(self) -> list[Layers]:
        """The L layers: the convolution that makes channels, their normalisation, the convolution
        that reads them."""


class Prune(FineTuning):
    """Network slimming (Liu et al., ICCV 2017) of the source's network, on the target's items.

    First, with a share of the steps, all parameters are trained from the source with
    loss = cross_entropy + sparsity * sum of |gamma| over the scales gamma of batch normalisation
    behind each prunable convolution. The channels with the smallest |gamma| are then removed from
    the convolutions before and after, and the smaller network is fine-tuned with the rest of the
    steps. Unlike in the paper, where one threshold holds for the whole network, each layer loses
    the same share of its channels: the networks of a committee then have one shape.

    In a residual network the channels within a block are prunable; those of the sum stay.
    """

    paper: ClassVar[str] = "Liu et al., 2017"
    sparsity: float = Field(1e-2, ge=0)
    """Strength of the pull of scales towards zero."""
    pruned: float = Field(0.5, gt=0, lt=1)
    """Share of a layer's channels that are removed; at least one remains."""
    sparse_share: float = Field(0.5, gt=0, lt=1)
    """Share of the steps before the cut."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        layers_of(network)
        return super().prepare(network, knowledge, class_names)

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        scales = torch.cat([norm.weight for _, norm, _ in layers_of(prepared.network)])
        terms = super().loss(prepared, batch, progress)
        return {**terms, "sparsity": torch.mul(scales.abs().sum(), self.sparsity)}

    def train(self, job: Job) -> Trained:
        prepared = self.prepare(job.network(), job.knowledge, job.class_names)
        whole = job.fit(self, prepared, share=self.sparse_share)
        kept = [strongest(norm.weight, self.pruned) for _, norm, _ in layers_of(whole)]
        small = narrowed(whole, kept, job)
        tensors = small.state_dict().values()
        transfers = [_cut(t, n) for t, n in zip(prepared.transfers, tensors, strict=True)]
        rates = stage_rates(small, self.learning_rate, self.backbone_rate, self.decay)
        smaller = Prepared(small, rates, transfers)
        network = job.fit(Method(), smaller, share=1 - self.sparse_share)
        notes: dict[str, float | str] = {
            "parameters": float(_size(network)),
            "parameters before": float(_size(whole)),
        }
        return Trained(network, transfers, notes=notes)


def layers_of(network: Network) -> list[Layers]:
    """The prunable layers of a network.

    Raises:
        SettingsError: its backbone has none.
    """
    if not isinstance(network.backbone, Prunable):
        raise SettingsError(
            f"prune found the backbone {network.backbone_spec.name!r}, which has no "
            "prunable channels; expected one that can be pruned, such as resnet: choose another "
            "backbone or leave prune out of adapt.methods"
        )
    return network.backbone.prunable()


def strongest(scales: Tensor, pruned: float) -> Tensor:
    """Indices, in order, of the channels that stay: those of the largest |scale| of (C,)."""
    keep = max(1, round((1 - pruned) * len(scales)))
    order = scales.detach().abs().argsort(descending=True, stable=True)
    return order[:keep].sort().values


def narrowed(network: Network, kept: Sequence[Tensor], job: Job) -> Network:
    """A smaller network with the kept channels' weights; kept has L tensors of indices."""
    names = {id(module): name for name, module in network.named_modules()}
    state = dict(network.state_dict())
    for (conv, norm, reader), rows in zip(layers_of(network), kept, strict=True):
        for module in (conv, norm):
            for name, tensor in module.state_dict(prefix=f"{names[id(module)]}.").items():
                state[name] = tensor[rows] if tensor.dim() else tensor
        name = f"{names[id(reader)]}.weight"
        state[name] = state[name][:, rows]
    widths = [len(rows) for rows in kept]
    options = {**network.backbone_spec.options, "widths": widths}
    small = job.network(BackboneSpec(name=network.backbone_spec.name, options=options))
    small.load_state_dict(state)
    return small


def _cut(transfer: Transfer, tensor: Tensor) -> Transfer:
    """A row of the transfer map after the cut: a tensor that lost channels is not a full copy."""
    shape = list(tensor.shape)
    if shape == transfer.shape:
        return transfer
    action = "sliced" if transfer.action == "copied" else transfer.action
    detail = f"channels cut from {transfer.shape} to {shape}"
    return transfer.model_copy(update={"shape": shape, "action": action, "detail": detail})


def _size(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


METHOD = Prune
