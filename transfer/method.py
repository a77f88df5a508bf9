"""The seam of the transfer methods: a method is one file in transfer/methods/.

A module there sets ``METHOD`` to a subclass of `Method`. Its fields are its settings, so they
appear in params.yaml and in the typed form by themselves. The one training loop, `transfer.fit`,
calls its three moves. Shapes: N items, K classes.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from transfer import methods, registry
from transfer.network import Network
from transfer.section import Section
from transfer.weights import Knowledge, Transfer, transplant


@dataclass(frozen=True)
class Batch:
    """What a loss sees: class scores are the loop's business, targets may be soft."""

    inputs: Tensor  # N x C x H x W normalised images, or N x D features of a frozen backbone
    targets: Tensor  # N x K class probabilities, rows sum to 1


@dataclass
class Prepared:
    """A network made ready by a method."""

    network: Network
    rates: list[tuple[list[nn.Parameter], float]]
    """Groups of trained parameters, each with its peak learning rate."""
    transfers: list[Transfer]
    reference: dict[str, Tensor] = field(default_factory=dict)
    """Tensors the loss compares with, by parameter name."""
    views: int = 0
    """Above 0 the body is frozen: features of that many augmented views of each training image
    are computed once, and only the head is trained."""


class Method(Section):
    """A way to use what the source knows; the fields of a subclass are its settings."""

    uses_source: ClassVar[bool] = True
    """False for a method that never sees the source's weights."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        """Put knowledge into a fresh network, freeze, and group parameters by learning rate."""
        raise NotImplementedError

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Named scalar terms of the loss, which the loop sums; progress runs from 0 to 1."""
        scores = prepared.network(batch.inputs)
        return {"cross_entropy": functional.cross_entropy(scores, batch.targets)}

    def finish(self, prepared: Prepared) -> Network:
        """The network to keep once the steps are done."""
        return prepared.network


def receive(
    network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
) -> list[Transfer]:
    """Transplant for a method that needs a source.

    Raises:
        ValueError: there is no source to take from.
    """
    if knowledge is None:
        raise ValueError("this method transfers from a source and was given none")
    return transplant(network, knowledge, class_names)


def stage_rates(
    network: Network, peak: float, body: float, decay: float
) -> list[tuple[list[nn.Parameter], float]]:
    """Discriminative learning rates (Howard and Ruder, ACL 2018): lower towards the input.

    The head trains at ``peak``, the last stage at ``peak * body``, and each stage before it at
    ``decay`` times the rate of the one that follows.
    """
    groups = [(list(network.head.parameters()), peak)]
    rate = peak * body
    for stage in reversed(network.backbone.stages()):
        groups.append((list(stage.parameters()), rate))
        rate *= decay
    return groups


def known() -> dict[str, type[Method]]:
    """Every method in the folder, by name."""
    return {name: registry.load(methods, name).METHOD for name in registry.names(methods)}
