"""A network is a backbone and a head, the same for a seed whoever else is at work."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.transfer import tiny
from transfer.modalities.image.settings import ImageBackboneSettings as BackboneSettings


@pytest.fixture
def restless():
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_scores_are_a_linear_map_of_features():
    net = tiny.network().eval()
    images = torch.rand(4, 1, 12, 12)
    with torch.no_grad():
        features = net.backbone(images)
        expected = features @ net.head.weight.T + net.head.bias
        torch.testing.assert_close(net(images), expected)
    assert net.head.in_features == net.backbone.out_features


def test_networks_built_at_once_are_those_built_in_turn(restless):
    seeds = list(range(12))
    alone = [tiny.network(seed=seed).state_dict() for seed in seeds]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: tiny.network(seed=seed).state_dict(), seeds))
    for tensor, other in zip(alone, together, strict=True):
        assert tiny.same(tensor, other)


def test_building_leaves_the_global_dice_alone():
    before = torch.get_rng_state()
    tiny.network(seed=9)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_backbone_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"expected one of .*resnet"):
        BackboneSettings(name="vgg")
