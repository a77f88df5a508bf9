"""Fine-tuning with frozen normalisation: all normalisation layers keep the source's values."""

from typing import ClassVar

from transfer.models.network import Network
from transfer.models.norm_layers import norm_layers
from transfer.models.parameter_transfer import Knowledge
from transfer.training.method import FineTuning, Prepared


class FreezeNorm(FineTuning):
    """Fine-tuning of all parameters but those of the backbone's normalisation layers.

    Batch normalisation (Ioffe and Szegedy, ICML 2015) computes y = gamma (x - mu) / sigma + beta.
    Here mu and sigma are the source's running statistics in training too, and gamma and beta stay
    the source's: each layer is a fixed affine map. He et al., CVPR 2016, appendix A, fine-tune
    their ImageNet networks for object detection in this way, mainly to save memory; with few labels
    it also avoids the noise of statistics from small batches. The price: activations are not
    adapted to the target's distribution. In layers without running statistics, such as layer
    normalisation, gamma and beta stay. Loss and learning rates are those of fine-tuning.
    """

    paper: ClassVar[str] = "Ioffe and Szegedy, 2015; He et al., 2016"

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        prepared = super().prepare(network, knowledge, class_names)
        frozen = list(norm_layers(network.backbone).values())
        kept = {id(parameter) for layer in frozen for parameter in layer.parameters()}
        groups = [([p for p in group if id(p) not in kept], peak) for group, peak in prepared.rates]
        rates = [(group, peak) for group, peak in groups if group]
        return Prepared(network, rates, prepared.transfers, frozen=frozen)


METHOD = FreezeNorm
