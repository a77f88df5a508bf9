"""The small residual network is what its docstrings say."""

import torch
from torch.nn import functional

from transfer.backbones import resnet


def test_it_has_the_size_it_claims():
    net = resnet.build(channels=1, width=16, pool=True)
    assert 250_000 < sum(p.numel() for p in net.parameters()) < 350_000
    assert net.out_features == 128


def test_a_block_adds_its_input():
    block = resnet.Block(4, 4, 1).eval()
    with torch.no_grad():
        block.second_norm.weight.zero_()
        x = torch.randn(2, 4, 5, 5)
        assert torch.equal(block(x), functional.relu(x))


def test_a_block_that_narrows_projects_its_input():
    block = resnet.Block(4, 8, 2).eval()
    with torch.no_grad():
        block.second_norm.weight.zero_()
        x = torch.randn(2, 4, 6, 6)
        weight = block.shortcut[0].weight[:, :, 0, 0]
        expected = torch.einsum("oi,nihw->nohw", weight, x[:, :, ::2, ::2])
        found = block(x)
    torch.testing.assert_close(found, functional.relu(expected) / (1 + 1e-5) ** 0.5)


def test_pooling_halves_the_resolution_once():
    images = torch.rand(1, 1, 32, 32)
    for pool, side in ((True, 16), (False, 32)):
        net = resnet.build(channels=1, width=4, pool=pool)
        assert net.stem(images).shape == (1, 4, side, side)
        hidden = net.block3(net.block2(net.block1(net.stem(images))))
        assert hidden.shape == (1, 32, side // 4, side // 4)
