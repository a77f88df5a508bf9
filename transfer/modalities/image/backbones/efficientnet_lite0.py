"""EfficientNet-Lite0, after Tan and Le, ICML 2019: 3.4 million parameters, 1280 features.

Weights trained on ImageNet come from a package, see
`transfer.modalities.image.networks.pretrained`.
"""

from transfer.modalities.backbone import Backbone
from transfer.modalities.image.networks.inverted_residuals import (
    InvertedResiduals,
    efficientnet_lite,
)


def build(*, channels: int, size: int = 128) -> Backbone:
    """Make the network with random weights; images are resized to ``size`` pixels a side."""
    return InvertedResiduals(channels, size, efficientnet_lite(width=1.0, depth=1.0))
