"""How many threads a step is worth: by its operations, counted here by hand."""

import torch

from tests.transfer import tiny
from transfer.modalities.backbone import BackboneSpec
from transfer.models.network import build
from transfer.training import cpu_threads
from transfer.training.cpu_threads import worthwhile


def test_operations_are_those_of_convolutions_and_the_head(monkeypatch):
    network = build(
        BackboneSpec(name="resnet", options={"width": 4, "pool": True}),
        spec=tiny.spec(1),
        classes=5,
        seed=0,
    )
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    by_layer = [
        4 * 8 * 8 * 9,  # stem, then halved to 4 x 4
        8 * 4 * 4 * (4 * 9 + 8 * 9 + 4),
        16 * 2 * 2 * (8 * 9 + 16 * 9 + 8),
        32 * 1 * 1 * (16 * 9 + 32 * 9 + 16),
        5 * 32,
    ]
    monkeypatch.setattr(cpu_threads, "EACH", 6 * sum(by_layer))
    assert [worthwhile(network, torch.zeros(1, 1, 8, 8), batch) for batch in (1, 7)] == [1, 7]
    monkeypatch.setattr(cpu_threads, "EACH", 6 * sum(by_layer) + 1)
    assert worthwhile(network, torch.zeros(1, 1, 8, 8), 7) == 6
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_the_default_network_takes_one_and_a_large_one_several():
    small = build(
        BackboneSpec(name="resnet", options={"width": 12}), spec=tiny.spec(1), classes=10, seed=0
    )
    large = build(
        BackboneSpec(name="resnet", options={"width": 32}), spec=tiny.spec(1), classes=10, seed=0
    )
    assert worthwhile(small, torch.zeros(1, 1, 28, 28), 64) == 1
    assert worthwhile(large, torch.zeros(1, 1, 64, 64), 64) >= 8
