"""Training from scratch: the baseline that transfer has to beat."""

from typing import ClassVar

from pydantic import Field

from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge, scratch_transfer_map
from transfer.training.method import Method, Prepared


class Scratch(Method):
    """Random initial weights, every parameter trained at the same rate, cross-entropy."""

    uses_source: ClassVar[bool] = False

    learning_rate: float = Field(5e-3, gt=0)
    """Peak learning rate."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        rates = [(list(network.parameters()), self.learning_rate)]
        return Prepared(network, rates, scratch_transfer_map(network))


METHOD = Scratch
