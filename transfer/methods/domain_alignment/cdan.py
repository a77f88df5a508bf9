"""Conditional adversarial training: features that hide the domain within each predicted class."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from transfer.methods.building_blocks.alignment import (
    Discriminator,
    certainty,
    domain_loss,
    outer,
    ramp,
    reverse,
)
from transfer.methods.building_blocks.shared_head import (
    Aligned,
    DomainFeatures,
    shared_classes,
    supervised,
)
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge
from transfer.training.method import Batch, Prepared


class Cdan(Aligned):
    """CDAN, and with entropy conditioning CDAN+E (Long et al., NeurIPS 2018).

    As DANN, with the outer product of features (D) and predictions (S) in place of the features:
    predictions are the class probabilities over the S classes that source and target share, held
    constant in the gradient as in the authors' code. With entropy conditioning an item's domain
    loss is multiplied by 1 + exp(-H(prediction)), over the mean of that in its domain. With
    fewer than two shared classes a prediction holds no information, and this is DANN.
    """

    paper: ClassVar[str] = "Long et al., 2018"

    strength: float = Field(1.0, ge=0)
    """Weight of the reversed gradient at the end of training."""
    hidden: int = Field(64, ge=1)
    """Units of the discriminator's hidden layer."""
    entropy: bool = True
    """Give more weight to items whose predictions are certain."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        prepared = super().prepare(network, knowledge, class_names)
        shared = len(shared_classes(prepared))
        discriminator = Discriminator(network.head.in_features * max(1, shared), self.hidden)
        prepared.helpers["discriminator"] = discriminator
        prepared.rates.append((list(discriminator.parameters()), self.learning_rate))
        return prepared

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        features = DomainFeatures(prepared.network, batch)
        strength, scores, weights = self.strength * ramp(progress), [], []
        for domain in features.domains():
            predicted = _predicted(prepared, domain)
            joint = outer(reverse(domain, strength), predicted)
            scores.append(prepared.helpers["discriminator"](joint))
            weights.append(certainty(predicted) if self.entropy else None)
        return {**supervised(prepared, batch, features), "domain": domain_loss(*scores, *weights)}


def _predicted(prepared: Prepared, features: Tensor) -> Tensor:
    """Probabilities (N, S) of the shared classes for features (N, D); all 1 (N, 1) without any."""
    shared = shared_classes(prepared)
    if not shared:
        return features.new_ones(len(features), 1)
    return prepared.network.head(features.detach())[:, shared].float().softmax(dim=1).detach()


METHOD = Cdan
