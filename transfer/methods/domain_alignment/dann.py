"""Domain-adversarial training: features from which the domain cannot be predicted."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from transfer.methods.building_blocks.alignment import Discriminator, domain_loss, ramp, reverse
from transfer.methods.building_blocks.shared_head import Aligned, DomainFeatures, supervised
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge
from transfer.training.method import Batch, Prepared


class Dann(Aligned):
    """DANN (Ganin et al., JMLR 2016).

    loss = cross-entropies of the labelled items of both domains + cross-entropy of a
    discriminator that separates source and target by the features. Between features and
    discriminator the gradient is reversed and multiplied by strength * lambda, with
    lambda = 2 / (1 + exp(-10 progress)) - 1. Without target labels it learns from the source's.
    """

    paper: ClassVar[str] = "Ganin et al., 2016"

    strength: float = Field(1.0, ge=0)
    """Weight of the reversed gradient at the end of training."""
    hidden: int = Field(64, ge=1)
    """Units of the discriminator's hidden layer."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        prepared = super().prepare(network, knowledge, class_names)
        discriminator = Discriminator(network.head.in_features, self.hidden)
        prepared.helpers["discriminator"] = discriminator
        prepared.rates.append((list(discriminator.parameters()), self.learning_rate))
        return prepared

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        features = DomainFeatures(prepared.network, batch)
        discriminator, strength = prepared.helpers["discriminator"], self.strength * ramp(progress)
        source, target = (discriminator(reverse(x, strength)) for x in features.domains())
        return {**supervised(prepared, batch, features), "domain": domain_loss(source, target)}


METHOD = Dann
