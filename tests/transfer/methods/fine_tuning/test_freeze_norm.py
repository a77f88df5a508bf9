"""Normalisation layers stay the source's, statistics included; everything else is fine-tuned."""

import torch
from torch import nn

from tests.transfer import tiny
from transfer.methods.fine_tuning.fine_tune import FineTune
from transfer.methods.fine_tuning.freeze_norm import FreezeNorm
from transfer.modalities.image.augment import AugmentPolicy
from transfer.modalities.normalisation import Normalisation
from transfer.training.batches import training_batch


def norms_of(network):
    return {n: m for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}


def test_every_normalisation_layer_ends_as_the_source_had_it_and_the_rest_moves():
    given, seen = tiny.knowledge(), tiny.items()
    recipe = tiny.recipe(seen, AugmentPolicy(), steps=10, average=0.9, average_from=0.5)
    network = tiny.trainer(FreezeNorm(), seen, recipe, sources=[given]).train().network
    norms = norms_of(network)
    frozen = {f"{name}.{key}" for name, layer in norms.items() for key in layer.state_dict()}
    assert len(norms) > 3
    for name, tensor in network.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, given.state[name]) == (name in frozen), name


def test_rates_are_those_of_fine_tuning_without_normalisation():
    def rates(method):
        ready = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
        names = {id(p): name for name, p in ready.network.named_parameters()}
        return {names[id(p)]: rate for group, rate in ready.rates for p in group}, ready.network

    frozen, network = rates(FreezeNorm(learning_rate=0.1, backbone_rate=0.5, decay=0.3))
    tuned, _ = rates(FineTune(learning_rate=0.1, backbone_rate=0.5, decay=0.3))
    fixed = tuple(f"{name}." for name in norms_of(network))
    assert frozen == {name: rate for name, rate in tuned.items() if not name.startswith(fixed)}
    assert len(frozen) < len(tuned)


def test_a_layer_in_training_computes_the_affine_map_of_the_docstring():
    seen = tiny.items()
    ready = FreezeNorm().prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    ready.network.train()
    ready.hold()
    layer = next(iter(norms_of(ready.network).values()))
    taken = []

    def keep(_, inputs, output):  # what follows rectifies the output in place
        taken.append((inputs[0].clone(), output.clone()))

    hook = layer.register_forward_hook(keep)
    FreezeNorm().loss(ready, training_batch(seen, torch.arange(6), tiny.recipe(seen), 0, 0), 0.0)
    hook.remove()
    ((x, y),) = taken
    mean, variance, gamma, beta = (
        t.detach().double().view(1, -1, 1, 1)
        for t in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    expected = gamma * (x.double() - mean) / (variance + layer.eps).sqrt() + beta
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-5)


def test_a_head_alone_is_trained_where_the_backbone_is_only_normalisation():
    class Flat(nn.Module):
        """A stand-in for a backbone: one normalisation, and the mean over pixels."""

        normal: Normalisation | None = None

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def stages(self):
            return [self.norm]

    network = tiny.network()
    network.backbone = Flat()
    ready = FreezeNorm().prepare(network, tiny.knowledge(), tiny.CLASSES)
    assert [len(group) for group, _ in ready.rates] == [2]
    assert [p for p in network.parameters() if p.requires_grad] == [*network.head.parameters()]
