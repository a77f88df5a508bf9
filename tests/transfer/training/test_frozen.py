"""What a method declares frozen stays, whatever the method tries; contradictions are refused."""

import pytest
import torch
from torch import nn

from tests.transfer import tiny
from tests.transfer.ranks import together
from transfer.core.errors import CrosstrainError
from transfer.modalities.image.augment import AugmentPolicy
from transfer.training.data_parallel import fit_together
from transfer.training.loop import Watch, fit
from transfer.training.method import Method, Prepared

SEEN = tiny.items()


class Part(Method):
    """Trains the head and all of the backbone but its first stage, which is declared frozen."""

    def prepare(self, network, knowledge, class_names):
        first, *others = network.backbone.stages()
        trained = [p for part in (network.head, *others) for p in part.parameters()]
        return Prepared(network, [(trained, 0.01)], [], frozen=[first])


class Undone(Part):
    """As a method that switches its network to training in every loss."""

    def loss(self, prepared, batch, progress):
        prepared.network.train()
        return super().loss(prepared, batch, progress)


class Written(Part):
    def after_step(self, prepared, progress):
        with torch.no_grad():
            next(prepared.frozen[0].parameters()).mul_(1.01)


def train(method=None, loop=fit, **told):
    method = method or Part()
    ready = method.prepare(tiny.network(), None, tiny.CLASSES)
    recipe = tiny.recipe(SEEN, AugmentPolicy(), steps=6, average=0.5, average_from=0.3)
    before = tiny.state(ready.network)
    net, _ = loop(method, ready, SEEN, recipe, seed=1, **told)
    return ready, before, net.state_dict()


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def check_first_stage_stays(ready, before, after):
    (first,) = ready.frozen
    names = {id(m): name for name, m in ready.network.named_modules()}
    kept = {name for name in before if name.startswith(f"{names[id(first)]}.")}
    assert any(name.endswith("running_mean") for name in kept)
    assert moved(before, after) == before.keys() - kept


@pytest.mark.parametrize("told", [{}, {"watch": Watch(SEEN, every=2, patience=9)}])
def test_parameters_and_running_statistics_stay_and_all_others_move(told):
    """With looks at validation items too, which switch the network to evaluation and back."""
    check_first_stage_stays(*train(**told))


def test_they_stay_where_the_method_has_set_its_network_to_train_before():
    class Loud(Part):
        def prepare(self, network, knowledge, class_names):
            ready = super().prepare(network, knowledge, class_names)
            network.train().requires_grad_(True)
            return ready

    check_first_stage_stays(*train(Loud()))


def test_they_stay_with_several_processes(tmp_path):
    def run(rank):
        ready, before, after = train(loop=fit_together)
        check_first_stage_stays(ready, before, after)
        return tiny.state(ready.network)

    one, two = together(tmp_path, run)
    assert tiny.same(one, two)


@pytest.mark.parametrize(("method", "tensor"), [(Undone(), "running_mean"), (Written(), "weight")])
def test_a_method_that_changes_them_all_the_same_ends_with_an_error(method, tensor):
    told = rf"{type(method).__name__} declares backbone\..*{tensor} frozen and changed it"
    with pytest.raises(CrosstrainError, match=told):
        train(method)


def test_a_single_parameter_can_be_frozen_and_its_module_goes_on():
    class Weight(Method):
        def prepare(self, network, knowledge, class_names):
            first = network.backbone.stages()[0]
            kept = next(first.parameters())
            trained = [p for p in network.parameters() if p is not kept]
            return Prepared(network, [(trained, 0.01)], [], frozen=[kept])

    ready, before, after = train(Weight())
    (kept,) = ready.frozen
    (name,) = (n for n, p in ready.network.named_parameters() if p is kept)
    assert moved(before, after) == before.keys() - {name}


def test_a_module_of_the_helpers_can_be_frozen():
    class Helped(Method):
        def prepare(self, network, knowledge, class_names):
            helpers = nn.ModuleDict({"norm": nn.BatchNorm2d(1)})
            rates = [(list(network.parameters()), 0.01)]
            return Prepared(network, rates, [], helpers=helpers, frozen=[helpers["norm"]])

        def loss(self, prepared, batch, progress):
            prepared.helpers["norm"](batch.inputs)
            return super().loss(prepared, batch, progress)

    ready, _, _ = train(Helped())
    assert int(ready.helpers["norm"].num_batches_tracked) == 0


def test_a_frozen_parameter_with_a_learning_rate_is_refused():
    class Both(Part):
        def prepare(self, network, knowledge, class_names):
            rates = [(list(network.parameters()), 0.01)]
            return Prepared(network, rates, [], frozen=[network.head])

    with pytest.raises(ValueError, match=r"Both declares head\.weight frozen and gives it a learn"):
        train(Both())


def test_what_belongs_to_no_network_cannot_be_frozen():
    class Foreign(Part):
        def prepare(self, network, knowledge, class_names):
            rates = [(list(network.parameters()), 0.01)]
            return Prepared(network, rates, [], frozen=[nn.Linear(2, 2)])

    with pytest.raises(ValueError, match="neither in the network nor in its helpers"):
        train(Foreign())


def test_kept_features_need_a_frozen_backbone():
    class Views(Method):
        def prepare(self, network, knowledge, class_names):
            return Prepared(network, [(list(network.head.parameters()), 0.01)], [], views=1)

    with pytest.raises(ValueError, match=r"expected Prepared\(\.\.\., frozen=\[network.backbone\]"):
        train(Views(), features=torch.zeros(1, len(SEEN), 32))
