"""The terms against SciPy, and that they do what they are named after."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from tests.transfer import tiny
from transfer.methods.building_blocks.semi_supervised import SPREAD
from transfer.methods.self_training.entropy import Entropy
from transfer.training.batches import logits, pool_batch, training_batch

SAME = tiny.knowledge(tiny.CLASSES)


def batch(labelled=8, unlabelled=12):
    seen = tiny.items()
    recipe = tiny.recipe(seen)
    made = training_batch(seen, torch.arange(labelled), recipe, 0, 0)
    pool = pool_batch(tiny.pool(), torch.arange(unlabelled), recipe, None, 0, 0)
    return replace(made, pool=pool)


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.9])
def test_its_terms_are_those_of_the_docstring(progress):
    method, given = Entropy(weight=0.7, rise=0.5, diversity=0.4), batch()
    ready = method.prepare(tiny.network(), SAME, tiny.CLASSES)
    with torch.no_grad():
        terms = {k: float(v) for k, v in method.loss(ready, given, progress).items()}
        found = ready.network(torch.cat([given.inputs, given.pool.weak])).double().numpy()
    chances = softmax(found[8:], axis=1)
    weight = 0.7 * (np.exp(-5 * (1 - 2 * progress) ** 2) if progress < 0.5 else 1)
    assert terms["entropy"] == pytest.approx(weight * entropy(chances, axis=1).mean(), rel=1e-4)
    expected = -weight * 0.4 * entropy(chances.mean(0))
    assert terms["diversity"] == pytest.approx(expected, rel=1e-4)
    logs = log_softmax(found[:8], axis=1)
    expected = -(logs * given.targets.numpy()).sum(1).mean()
    assert terms["cross_entropy"] == pytest.approx(expected, rel=1e-4)


def test_without_labelled_items_only_the_pool_has_terms():
    method = Entropy()
    ready = method.prepare(tiny.network(), SAME, tiny.CLASSES)
    given = batch()
    none = replace(given, inputs=given.inputs[:0], targets=given.targets[:0])
    assert set(method.loss(ready, none, 1.0)) == {"entropy", "diversity"}


def lopsided():
    """A source that is unsure, and of one class a little less so."""
    weight, bias = 0.05 * SAME.state["head.weight"], torch.tensor([1.0, 0.0, 0.0])
    return replace(SAME, state={**SAME.state, "head.weight": weight, "head.bias": bias})


def run(**settings):
    seen = tiny.items()
    none = seen.take(np.zeros(24, bool))
    method = Entropy(weight=1, rise=0, **settings)
    made = tiny.trainer(method, none, tiny.recipe(seen, steps=30), sources=[lopsided()])
    result = made.train()
    scores = logits(result.network, tiny.pool().records, made.recipe).double().numpy()
    return entropy(softmax(scores, axis=1), axis=1).mean(), result.notes[SPREAD]


def test_alone_it_makes_predictions_sure_and_collapses_and_diversity_prevents_that():
    sure, few = run(diversity=0)
    _, many = run(diversity=2)
    assert sure < 0.4
    assert few < 1.6
    assert many > 2.5
