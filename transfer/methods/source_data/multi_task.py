"""Multi-task learning: one backbone for the source's classes and the target's, trained at once."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from transfer.methods.building_blocks.shared_head import DomainFeatures, Joint, supervised
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge
from transfer.training.method import Batch, Prepared


class Balance(nn.Module):
    """Learned log variances of two tasks: the target's first, then the source's."""

    def __init__(self, source_weight: float) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.tensor([0.0, -math.log(source_weight)]))


class MultiTask(Joint):
    """Hard parameter sharing (Caruana, Machine Learning 1997): a shared backbone, a head for each
    domain.

    Classes of the same name share their row of the head. Balance of the cross-entropies:
    fixed: L = L_target + source_weight * L_source;
    uncertainty (Kendall, Gal and Cipolla, CVPR 2018): L = sum_i exp(-s_i) L_i + s_i / 2, with
    s_i = log sigma_i^2 learned for each domain.
    """

    paper: ClassVar[str] = "Caruana, 1997; Kendall, Gal and Cipolla, 2018"

    balance: Literal["fixed", "uncertainty"] = "fixed"
    """How the two losses are weighted."""
    source_weight: float = Field(1.0, gt=0)
    """Weight of the source's loss; its initial value if the balance is learned."""
    balance_rate: float = Field(3e-2, gt=0)
    """Peak learning rate of a learned balance."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        prepared = super().prepare(network, knowledge, class_names)
        if self.balance == "uncertainty":
            balance = Balance(self.source_weight)
            prepared.helpers["balance"] = balance
            prepared.rates.append(([balance.log_variance], self.balance_rate))
        return prepared

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        terms = supervised(prepared, batch, DomainFeatures(prepared.network, batch))
        target, source = terms["cross_entropy"], terms["source"]
        if self.balance == "fixed":
            return {"cross_entropy": target, "source": self.source_weight * source}
        log_variance = prepared.helpers["balance"].get_parameter("log_variance")
        weight = torch.exp(-log_variance)
        return {
            "cross_entropy": weight[0] * target,
            "source": weight[1] * source,
            "balance": log_variance.sum() / 2,
        }


METHOD = MultiTask
