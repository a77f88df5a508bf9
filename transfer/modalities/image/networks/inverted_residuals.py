"""Networks of inverted residuals: MobileNetV2 and EfficientNet-Lite are tables of one block.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018; Tan and Le,
EfficientNet, ICML 2019 (the Lite variants have no squeeze-and-excitation and use ReLU6).
Tensors are in the order of the published weights, so that these can be loaded by order.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from transfer.modalities.image.networks.imagenet import ImageNetBackbone
from transfer.modalities.normalisation import Normalisation

STEM, LAST = 32, 1280  # channels


class Row(NamedTuple):
    """Blocks that follow one another; the first of them has the stride."""

    kernel: int
    stride: int
    expand: int
    channels: int
    blocks: int


@dataclass(frozen=True)
class Table:
    """A whole network."""

    rows: tuple[Row, ...]
    normal: Normalisation
    epsilon: float
    """Of batch normalisation."""
    same: bool
    """Pad convolutions with a stride as TensorFlow does, more at the end than at the start."""


class SamePadded(nn.Conv2d):
    """A convolution whose output has ceil(size / stride) pixels a side, whatever the size."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            needed = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [needed // 2, needed - needed // 2]
        return super().forward(functional.pad(x, pads))


def _filter(
    table: Table, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution with He et al.'s weights (ICCV 2015, fan out) and its normalisation."""
    kind, padding = nn.Conv2d, (kernel - 1) // 2
    if table.same and stride > 1:
        kind, padding = SamePadded, 0
    convolution = kind(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    nn.init.normal_(convolution.weight, std=math.sqrt(2 * groups / (kernel**2 * outputs)))
    return [convolution, nn.BatchNorm2d(outputs, eps=table.epsilon)]


def _active(
    table: Table, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    return [*_filter(table, inputs, outputs, kernel, stride, groups), nn.ReLU6(inplace=True)]


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel, project by 1x1 without an activation; add the input
    where the shapes allow it."""

    def __init__(self, table: Table, inputs: int, row: Row) -> None:
        super().__init__()
        wide = inputs * row.expand
        layers = [] if row.expand == 1 else _active(table, inputs, wide, 1)
        layers += _active(table, wide, wide, row.kernel, row.stride, groups=wide)
        layers += _filter(table, wide, row.channels, 1)
        self.layers = nn.Sequential(*layers)
        self.adds = row.stride == 1 and inputs == row.channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.adds else y


class InvertedResiduals(ImageNetBackbone):
    """Stem, rows of blocks and a last 1x1 convolution, averaged over all pixels."""

    def __init__(self, channels: int, size: int, table: Table) -> None:
        super().__init__(channels, size, table.normal)
        self.out_features = LAST
        self.parts = nn.ModuleList([nn.Sequential(*_active(table, 3, STEM, 3, stride=2))])
        inputs = STEM
        for row in table.rows:
            first = InvertedResidual(table, inputs, row)
            inputs, again = row.channels, row._replace(stride=1)
            others = [InvertedResidual(table, inputs, again) for _ in range(row.blocks - 1)]
            self.parts.append(nn.Sequential(first, *others))
        self.parts.append(nn.Sequential(*_active(table, inputs, LAST, 1)))

    def forward(self, images: Tensor) -> Tensor:
        x = self.adapted(images)  # N x 3 x S x S
        for part in self.parts:
            x = part(x)  # after the last part: N x 1280 x S/32 x S/32
        return x.mean(dim=(2, 3))  # N x 1280

    def stages(self) -> list[nn.Module]:
        return list(self.parts)


_LITE = Table(
    (
        Row(3, 1, 1, 16, 1),
        Row(3, 2, 6, 24, 2),
        Row(5, 2, 6, 40, 2),
        Row(3, 2, 6, 80, 3),
        Row(5, 1, 6, 112, 3),
        Row(5, 2, 6, 192, 4),
        Row(3, 1, 6, 320, 1),
    ),
    Normalisation(mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
    epsilon=1e-3,
    same=True,
)


def efficientnet_lite(width: float, depth: float) -> Table:
    """EfficientNet-Lite: rows get wider and have more blocks; the stem stays as it is.

    Channels are multiples of 8, at least nine tenths of the product; the first and the last row
    keep one block each.
    """
    first, *middle, last = _LITE.rows
    longer = [row._replace(blocks=math.ceil(depth * row.blocks)) for row in middle]
    rows = [row._replace(channels=_eights(width * row.channels)) for row in (first, *longer, last)]
    return replace(_LITE, rows=tuple(rows))


def _eights(wanted: float) -> int:
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * wanted else nearest + 8
