"""Normalisation layers, those with running statistics apart."""

from torch import nn

from tests.transfer import tiny
from transfer.models.norm_layers import batch_norms, norm_layers


class OwnNorm(nn.BatchNorm2d):
    """As libraries of networks derive theirs."""


def test_they_are_found_by_name_at_any_depth():
    inner = nn.Sequential(nn.Conv2d(1, 4, 3), OwnNorm(4), nn.GroupNorm(2, 4))
    net = nn.Sequential(
        inner, nn.LayerNorm(4), nn.InstanceNorm2d(4), nn.RMSNorm(4), nn.Linear(4, 2)
    )
    assert list(norm_layers(net)) == ["0.1", "0.2", "1", "2", "3"]
    assert batch_norms(net) == {"0.1": inner[1]}


def test_the_layers_of_a_backbone_are_its_own():
    network = tiny.network()
    modules = dict(network.backbone.named_modules())
    assert batch_norms(network.backbone)
    assert all(modules[name] is layer for name, layer in batch_norms(network.backbone).items())
