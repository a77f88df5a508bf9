"""Fine-tuning that is pulled back to the source's weights instead of to zero."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge
from transfer.training.method import Batch, FineTuning, Prepared, receive, stage_rates


class L2SP(FineTuning):
    """L2-SP (Li, Grandvalet and Davoine, ICML 2018).

    loss = cross_entropy + alpha / 2 * ||w - w0||^2 + beta / 2 * ||v||^2, with w the parameters
    taken whole from the source (w0 their values there) and v all others. The optimiser's own decay
    is off.
    """

    paper: ClassVar[str] = "Li, Grandvalet and Davoine, 2018"
    alpha: float = Field(0.01, ge=0)
    """Strength of the pull towards the source's weights."""
    beta: float = Field(0.01, ge=0)
    """Strength of the pull towards zero of new parameters."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        transfers = receive(network, knowledge, class_names)
        kept = {t.tensor for t in transfers if t.action == "copied"}
        reference = {n: p.detach().clone() for n, p in network.named_parameters() if n in kept}
        rates = stage_rates(network, self.learning_rate, self.backbone_rate, self.decay)
        return Prepared(network, rates, transfers, reference, decays=False)

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        scores = prepared.network(batch.inputs)
        pull, shrink = scores.new_zeros(()), scores.new_zeros(())
        for name, parameter in prepared.network.named_parameters():
            if (start := prepared.reference.get(name)) is not None:
                pull = pull + (parameter - start).square().sum()
            else:
                shrink = shrink + parameter.square().sum()
        return {
            "cross_entropy": functional.cross_entropy(scores, batch.targets),
            "start_point": torch.mul(pull, self.alpha / 2),
            "new_weights": torch.mul(shrink, self.beta / 2),
        }


METHOD = L2SP
