"""The source's weights, and rates that fall towards the input."""

import torch

from tests.transfer import tiny
from transfer.methods.fine_tune import FineTune


def test_rates_are_those_of_the_docstring():
    method = FineTune(learning_rate=0.1, body_rate=0.5, decay=0.3)
    ready = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    rate_of = {id(p): rate for parameters, rate in ready.rates for p in parameters}
    stages = ready.network.backbone.stages()
    for i, stage in enumerate(stages):
        expected = 0.1 * 0.5 * 0.3 ** (len(stages) - 1 - i)
        for parameter in stage.parameters():
            torch.testing.assert_close(rate_of.pop(id(parameter)), expected)
    assert [rate_of.pop(id(p)) for p in ready.network.head.parameters()] == [0.1, 0.1]
    assert not rate_of


def test_it_starts_from_the_source():
    given = tiny.knowledge()
    ready = FineTune().prepare(tiny.network(), given, tiny.CLASSES)
    for name, tensor in ready.network.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, given.state[name])
    assert all(p.requires_grad for p in ready.network.parameters())
