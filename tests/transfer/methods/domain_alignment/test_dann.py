"""The adversarial term against NumPy, whose gradient goes where, and what it does to features."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.transfer import domains, tiny
from transfer.core.errors import CrosstrainError
from transfer.methods.domain_alignment.dann import Dann

PROGRESS = 0.4
LAMBDA = 2 / (1 + np.exp(-10 * PROGRESS)) - 1


def test_the_term_is_the_cross_entropy_of_the_discriminator():
    method = Dann()
    ready, batch = domains.ready(method), domains.batch()
    w, b, v, c = (p.detach().double().numpy() for p in ready.helpers["discriminator"].parameters())
    source, target = (
        1 / (1 + np.exp(-(np.maximum(x @ w.T + b, 0) @ v[0] + c[0])))
        for x in domains.features(ready, batch)
    )
    expected = (-np.log(source).mean() - np.log(1 - target).mean()) / 2
    found = method.loss(ready, batch, PROGRESS)
    assert float(found["domain"].detach()) == pytest.approx(expected, rel=1e-4)
    assert set(found) == {"cross_entropy", "source", "domain"}


def test_the_backbone_gets_the_reversed_gradient_and_the_discriminator_its_own():
    batch, gradients = domains.batch(), []
    for strength in (0.5, 1.0):
        method = Dann(strength=strength)
        ready = domains.ready(method)
        method.loss(ready, batch, PROGRESS)["domain"].backward()
        backbone_spec = ready.network.backbone.stem[0].weight.grad
        gradients.append((backbone_spec, ready.helpers["discriminator"].score.weight.grad))
        assert ready.network.head.weight.grad is None
    torch.testing.assert_close(2 * gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1])
    step = 0.01 / float(gradients[1][0].norm())
    losses = []
    for move in (0.0, -step, step):  # along the backbone's update, and against it
        ready = domains.ready(method)
        with torch.no_grad():
            ready.network.backbone.stem[0].weight.add_(move * gradients[1][0])
        losses.append(float(method.loss(ready, batch, PROGRESS)["domain"].detach()))
    assert losses[1] > losses[0] > losses[2]
    slope = (losses[2] - losses[1]) / (2 * step)
    assert slope == pytest.approx(-float(gradients[1][0].square().sum()) / LAMBDA, rel=0.05)


def test_classes_that_the_source_lacks_need_labels():
    seen = tiny.items()
    none = seen.take(np.zeros(24, dtype=bool))
    target = replace(tiny.target(none, folds=0), pool=tiny.pool_of(seen))
    trainer = tiny.trainer(Dann(), none, tiny.recipe(seen, steps=1), target=target)
    with pytest.raises(CrosstrainError, match="acer, corylus"):
        trainer.train()
