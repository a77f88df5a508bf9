"""A frozen backbone: its weights and its statistics stay, its features are those of the views."""

import numpy as np
import torch

from tests.transfer import tiny
from transfer.methods.frozen_features.linear_probe import LinearProbe
from transfer.modalities.image.augment import AugmentPolicy
from transfer.training.batches import embed
from transfer.training.loop import fit
from transfer.training.method import Batch


def test_only_the_head_trains():
    method = LinearProbe(learning_rate=0.03, views=5)
    ready = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    ((parameters, rate),) = ready.rates
    assert [id(p) for p in parameters] == [id(p) for p in ready.network.head.parameters()]
    assert rate == 0.03 and ready.views == 5
    assert not any(p.requires_grad for p in ready.network.backbone.parameters())


def test_its_loss_is_the_cross_entropy_of_a_linear_map():
    ready = LinearProbe().prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 32)), rng.dirichlet(np.ones(3), size=7)
    weight, bias = (p.detach().double().numpy() for p in ready.network.head.parameters())
    z = x @ weight.T + bias
    expected = -(y * (z - np.log(np.exp(z).sum(1, keepdims=True)))).sum(1).mean()
    batch = Batch(torch.tensor(x).float(), torch.tensor(y).float())
    found = LinearProbe().loss(ready, batch, 0.0)
    torch.testing.assert_close(float(found["cross_entropy"].detach()), expected, rtol=1e-5, atol=0)


def test_the_backbone_stays_bit_for_bit_also_where_the_network_was_left_in_training_mode():
    seen = tiny.items()
    method = LinearProbe(views=2)
    ready = method.prepare(tiny.network().train(), tiny.knowledge(), tiny.CLASSES)
    backbone_spec, head = tiny.state(ready.network.backbone), tiny.state(ready.network.head)
    recipe = tiny.recipe(seen, AugmentPolicy(), steps=5)
    views = embed(ready.network, seen.records, 2, recipe, 0)
    kept, _ = fit(method, ready, seen, recipe, seed=0, features=views)
    assert tiny.same(kept.backbone.state_dict(), backbone_spec)
    assert not tiny.same(kept.head.state_dict(), head)
