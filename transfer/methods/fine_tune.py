"""Fine-tuning: start from the source's weights and train everything, gently near the input."""

from pydantic import Field

from transfer.method import Method, Prepared, receive, stage_rates
from transfer.network import Network
from transfer.weights import Knowledge


class FineTune(Method):
    """All parameters from the source, discriminative learning rates, cross-entropy.

    Yosinski et al., NeurIPS 2014 (fine-tuning transferred features); the rates after Howard and
    Ruder, ACL 2018: stage i of S trains at ``learning_rate * body_rate * decay ** (S - 1 - i)``.
    """

    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate of the head."""
    body_rate: float = Field(0.5, gt=0, le=1)
    """Rate of the last stage, as a share of the head's."""
    decay: float = Field(0.8, gt=0, le=1)
    """Rate of a stage, as a share of that of the next one towards the output."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        transfers = receive(network, knowledge, class_names)
        rates = stage_rates(network, self.learning_rate, self.body_rate, self.decay)
        return Prepared(network, rates, transfers)


METHOD = FineTune
