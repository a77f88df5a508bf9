"""The source's network, bit for bit, with its head's rows in the target's order."""

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.core.errors import CrosstrainError
from transfer.methods.baselines.scratch import Scratch
from transfer.methods.baselines.source_only import SourceOnly
from transfer.methods.building_blocks.semi_supervised import SPREAD
from transfer.models.parameter_transfer import Knowledge
from transfer.training.batches import logits
from transfer.training.loop import fit

NAMES = ("corylus", "ulmus", "acer", "betula")


def run(sources, labels=24):
    seen = tiny.items()
    made = tiny.trainer(
        SourceOnly(), seen.take(np.arange(24) < labels), tiny.recipe(seen), sources=sources
    )
    return made, made.train()


def test_backbone_and_rows_are_those_of_the_source_whatever_is_labelled():
    given = tiny.knowledge(NAMES)
    _, result = run([given])
    state = result.network.state_dict()
    for name, tensor in given.state.items():
        rows = [NAMES.index(name) for name in tiny.CLASSES]
        assert torch.equal(state[name], tensor[rows] if name.startswith("head.") else tensor)
    _, unlabelled = run([given], labels=0)
    assert tiny.same(state, unlabelled.network.state_dict())


def test_it_makes_no_step():
    made, result = run([tiny.knowledge(NAMES)])
    assert made.steps == 0 and not made.history.step
    assert 1 <= result.notes[SPREAD] <= 3


def test_classes_that_the_source_lacks_are_named_even_with_labels():
    with pytest.raises(CrosstrainError, match=r"trees lacks .* acer, corylus "):
        run([tiny.knowledge(("betula", "fagus"))])


def test_it_is_as_good_as_its_source():
    seen = tiny.items(seed=5)
    recipe = tiny.recipe(seen, steps=40)
    network, _ = fit(
        Scratch(), Scratch().prepare(tiny.network(), None, tiny.CLASSES), seen, recipe, seed=0
    )
    given = Knowledge("trees", tiny.CLASSES, network.state_dict(), tiny.BODY, recipe.normal)
    made, result = run([given], labels=0)
    target = tiny.items(60, seed=3)
    found = logits(result.network, target.records, made.recipe).argmax(1)
    assert float((found == target.labels).double().mean()) > 0.9
