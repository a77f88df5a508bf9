"""The baseline: nothing from the source, everything trained at one rate."""

from tests.transfer import tiny
from transfer.methods.baselines.scratch import Scratch


def test_every_parameter_trains_at_one_rate():
    net = tiny.network()
    ready = Scratch(learning_rate=0.02).prepare(net, None, tiny.CLASSES)
    ((parameters, rate),) = ready.rates
    assert rate == 0.02
    assert [id(p) for p in parameters] == [id(p) for p in net.parameters()]


def test_the_network_keeps_its_random_weights():
    ready = Scratch().prepare(tiny.network(), None, tiny.CLASSES)
    assert tiny.same(ready.network.state_dict(), tiny.network().state_dict())
    assert not ready.reference and not ready.views
    assert not Scratch.uses_source
