"""The head alone learns, on features of the backbone as it is, and then everything trains again."""

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.methods.building_blocks.head_first import HeadAlone, probe
from transfer.modalities.image.augment import AugmentPolicy
from transfer.training.method import Batch, Prepared, receive


def ready_job(steps=20):
    seen = tiny.items()
    recipe = tiny.recipe(seen, AugmentPolicy(), steps=steps)
    trainer = tiny.trainer(HeadAlone(), seen, recipe)
    network = trainer.job.network()
    transfers = receive(network, trainer.job.knowledge, tiny.CLASSES)
    return trainer, Prepared(network, [], transfers)


def test_its_loss_is_the_cross_entropy_of_a_linear_map_of_features():
    _, ready = ready_job()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 32)), rng.dirichlet(np.ones(3), size=7)
    weight, bias = (p.detach().double().numpy() for p in ready.network.head.parameters())
    z = x @ weight.T + bias
    expected = -(y * (z - np.log(np.exp(z).sum(1, keepdims=True)))).sum(1).mean()
    batch = Batch(torch.tensor(x).float(), torch.tensor(y).float())
    found = HeadAlone().loss(ready, batch, 0.0)
    assert float(found["cross_entropy"].detach()) == pytest.approx(expected, rel=1e-5)


def test_the_backbone_stays_bit_for_bit_and_the_head_moves():
    trainer, ready = ready_job()
    backbone_spec, head = tiny.state(ready.network.backbone), tiny.state(ready.network.head)
    probe(trainer.job, ready, rate=0.01, views=2, share=0.5)
    assert tiny.same(ready.network.backbone.state_dict(), backbone_spec)
    assert not tiny.same(ready.network.head.state_dict(), head)


def test_it_takes_its_share_of_the_steps():
    trainer, ready = ready_job(steps=20)
    probe(trainer.job, ready, rate=0.01, views=2, share=0.4)
    assert trainer.steps == 8 and trainer.history.step[-1] == 8


def test_what_trained_before_trains_again_and_what_was_frozen_stays_frozen():
    trainer, ready = ready_job(steps=2)
    ready.network.backbone.stages()[0].requires_grad_(False)
    before = {n: p.requires_grad for n, p in ready.network.named_parameters()}
    probe(trainer.job, ready, rate=0.01, views=1, share=1.0)
    assert {n: p.requires_grad for n, p in ready.network.named_parameters()} == before
    assert len(set(before.values())) == 2
