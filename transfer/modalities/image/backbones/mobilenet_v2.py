"""MobileNetV2, after Sandler et al., CVPR 2018: 2.2 million parameters, 1280 features.

Weights trained on ImageNet come from a package, see
`transfer.modalities.image.networks.pretrained`.
"""

from transfer.modalities.backbone import Backbone
from transfer.modalities.image.networks.imagenet import IMAGENET
from transfer.modalities.image.networks.inverted_residuals import InvertedResiduals, Row, Table

_TABLE = Table(
    (
        Row(3, 1, 1, 16, 1),
        Row(3, 2, 6, 24, 2),
        Row(3, 2, 6, 32, 3),
        Row(3, 2, 6, 64, 4),
        Row(3, 1, 6, 96, 3),
        Row(3, 2, 6, 160, 3),
        Row(3, 1, 6, 320, 1),
    ),
    IMAGENET,
    epsilon=1e-5,
    same=False,
)


def build(*, channels: int, size: int = 128) -> Backbone:
    """Make the network with random weights; images are resized to ``size`` pixels a side."""
    return InvertedResiduals(channels, size, _TABLE)
