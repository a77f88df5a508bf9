"""The block of MobileNetV2 and EfficientNet-Lite, and how the latter grows."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from transfer.modalities.image.networks.inverted_residuals import (
    InvertedResidual,
    InvertedResiduals,
    Row,
    SamePadded,
    Table,
    efficientnet_lite,
)
from transfer.modalities.normalisation import Normalisation

NORMAL = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
TABLE = Table((Row(3, 2, 2, 8, 2),), NORMAL, epsilon=1e-3, same=True)


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("side", [1, 4, 5, 7, 8])
@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_is_as_in_tensorflow_more_at_the_end(side, kernel):
    layer, x = SamePadded(2, 3, kernel, 2, bias=False), noise(1, 2, side, side)
    outputs = -(-side // 2)
    needed = max((outputs - 1) * 2 + kernel - side, 0)
    around = np.pad(x.numpy(), [(0, 0), (0, 0), *[(needed // 2, needed - needed // 2)] * 2])
    found = layer(x).detach().numpy()
    assert found.shape == (1, 3, outputs, outputs)
    for i, j in np.ndindex(outputs, outputs):
        window = around[0, :, 2 * i : 2 * i + kernel, 2 * j : 2 * j + kernel]
        expected = (layer.weight.detach().numpy() * window).sum((1, 2, 3))
        np.testing.assert_allclose(found[0, :, i, j], expected, rtol=1e-4, atol=1e-5)


def test_a_block_adds_its_input_where_the_shapes_allow_it():
    block, x = InvertedResidual(TABLE, 8, Row(3, 1, 2, 8, 1)).eval(), noise(2, 8, 6, 6)
    torch.testing.assert_close(block(x) - x, block.layers(x))
    assert not InvertedResidual(TABLE, 8, Row(3, 2, 2, 8, 1)).adds
    assert not InvertedResidual(TABLE, 8, Row(3, 1, 2, 16, 1)).adds


def test_the_bottleneck_is_linear_and_the_first_row_does_not_expand():
    layers = InvertedResidual(TABLE, 8, Row(3, 1, 1, 4, 1)).layers
    assert [type(layer) for layer in layers] == [
        *(nn.Conv2d, nn.BatchNorm2d, nn.ReLU6),
        *(nn.Conv2d, nn.BatchNorm2d),
    ]
    assert layers[0].groups == 8


def test_features_are_means_over_the_last_map():
    net = InvertedResiduals(3, 16, TABLE).eval()
    kept = []
    net.parts[-1].register_forward_hook(lambda *told: kept.append(told[2]))
    with torch.no_grad():
        found = net(functional.interpolate(noise(2, 3, 4, 4), (16, 16)))
    assert kept[0].shape == (2, 1280, 4, 4)
    torch.testing.assert_close(found, kept[0].mean((2, 3)))
    assert len(net.stages()) == 3 and net.stages()[1][1].adds


@pytest.mark.parametrize(
    ("width", "depth", "blocks", "channels"),
    [  # the table of Tan and Le's code for Lite0, Lite1, Lite2 and Lite4
        (1.0, 1.0, [1, 2, 2, 3, 3, 4, 1], [16, 24, 40, 80, 112, 192, 320]),
        (1.0, 1.1, [1, 3, 3, 4, 4, 5, 1], [16, 24, 40, 80, 112, 192, 320]),
        (1.1, 1.2, [1, 3, 3, 4, 4, 5, 1], [16, 24, 48, 88, 120, 208, 352]),
        (1.4, 1.8, [1, 4, 4, 6, 6, 8, 1], [24, 32, 56, 112, 160, 272, 448]),
    ],
)
def test_lite_networks_grow_in_width_and_depth(width, depth, blocks, channels):
    rows = efficientnet_lite(width, depth).rows
    assert [row.blocks for row in rows] == blocks
    assert [row.channels for row in rows] == channels
