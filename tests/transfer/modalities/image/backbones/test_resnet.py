"""The small residual network is what its docstrings say."""

import pytest
import torch
from torch.nn import functional

from tests.transfer import tiny
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.image.backbones import resnet
from transfer.models.network import build


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


# inner widths


def test_by_default_a_block_is_as_wide_inside_as_outside():
    backbone_spec = BackboneSpec(name="resnet", options={"width": 4})
    told = BackboneSpec(name="resnet", options={"width": 4, "widths": [8, 16, 32]})
    one, two = (build(b, spec=tiny.spec(1), classes=3, seed=0) for b in (backbone_spec, told))
    assert tiny.same(one.state_dict(), two.state_dict())


def test_inner_widths_change_the_inside_of_blocks_and_nothing_else():
    plain = resnet.build(channels=1, width=4)
    narrow = resnet.build(channels=1, width=4, widths=[3, 16, 1])
    shapes = {name: t.shape for name, t in plain.state_dict().items()}
    changed = {n: tuple(t.shape) for n, t in narrow.state_dict().items() if t.shape != shapes[n]}
    norm = ("weight", "bias", "running_mean", "running_var")
    assert changed == {
        "block1.first.weight": (3, 4, 3, 3),
        "block1.second.weight": (8, 3, 3, 3),
        "block3.first.weight": (1, 16, 3, 3),
        "block3.second.weight": (32, 1, 3, 3),
        **{f"block1.first_norm.{part}": (3,) for part in norm},
        **{f"block3.first_norm.{part}": (1,) for part in norm},
    }
    assert narrow.out_features == plain.out_features
    assert narrow(torch.rand(2, 1, 12, 12)).shape == (2, 32)


def test_its_prunable_layers_are_those_around_the_inner_channels():
    widths = [3, 5, 7]
    layers = resnet.build(channels=1, width=4, widths=widths).prunable()
    found = [(c.out_channels, n.num_features, r.in_channels) for c, n, r in layers]
    assert found == [(w, w, w) for w in widths]


def test_an_inner_channel_of_no_weight_can_be_left_out():
    whole = resnet.build(channels=1, width=4).eval()
    with torch.no_grad():
        whole.block2.first_norm.weight[[2, 9]] = 0
    keep = [c for c in range(16) if c not in (2, 9)]
    small = resnet.build(channels=1, width=4, widths=[8, 14, 32]).eval()
    state = whole.state_dict()
    for name in state:
        if name.startswith(("block2.first", "block2.first_norm")) and state[name].dim():
            state[name] = state[name][keep]
    state["block2.second.weight"] = state["block2.second.weight"][:, keep]
    small.load_state_dict(state)
    images = torch.rand(2, 1, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(small(images), whole(images))


@pytest.mark.parametrize("widths", [[], [4, 4], [4, 0, 4]])
def test_widths_that_make_no_network_are_refused(widths):
    with pytest.raises(ValueError, match="expected 3 numbers of 1 or more"):
        resnet.build(channels=1, width=4, widths=widths)
