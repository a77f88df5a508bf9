"""Linear probe: the source's features as they are, and a new linear head on them."""

from typing import ClassVar

from pydantic import Field

from transfer.methods.building_blocks.head_first import HeadAlone
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge
from transfer.training.method import Prepared, receive


class LinearProbe(HeadAlone):
    """A frozen backbone; only the head is trained (Alain and Bengio, ICLR workshop 2017).

    Features of the training items, each in a few augmented views, are computed once and kept,
    so that a step costs one small matrix product.
    """

    paper: ClassVar[str] = "Alain and Bengio, 2017"
    trains_backbone: ClassVar[bool] = False

    learning_rate: float = Field(1e-2, gt=0)
    """Peak learning rate of the head."""
    views: int = Field(8, ge=1)
    """Augmented views of each training item whose features are kept."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        transfers = receive(network, knowledge, class_names)
        rates = [(list(network.head.parameters()), self.learning_rate)]
        return Prepared(network, rates, transfers, frozen=[network.backbone], views=self.views)


METHOD = LinearProbe
