"""L2-SP against NumPy, and that it pulls."""

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.methods.fine_tuning.l2_sp import L2SP
from transfer.training.batches import training_batch
from transfer.training.loop import fit


def squares(tensors):
    return sum(float((t.double() ** 2).sum()) for t in tensors)


@pytest.mark.parametrize("classes", [("fagus", "salix"), ("betula", "salix"), tiny.CLASSES])
def test_its_terms_are_those_of_the_paper(classes):
    method = L2SP(alpha=0.3, beta=0.7)
    given = tiny.knowledge(classes)
    ready = method.prepare(tiny.network(), given, tiny.CLASSES)
    moves = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in ready.network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=moves))
    seen = tiny.items()
    batch = training_batch(seen, torch.arange(8), tiny.recipe(seen), 0, 0)
    terms = {k: float(v.detach()) for k, v in method.loss(ready, batch, 0.0).items()}
    now = {n: p.detach() for n, p in ready.network.named_parameters()}
    kept = [n for n in now if n.startswith("backbone.") or classes == tiny.CLASSES]
    pull = squares(now[n] - given.state[n] for n in kept)
    shrink = squares(p for n, p in now.items() if n not in kept)
    assert terms["start_point"] == pytest.approx(0.3 / 2 * pull, rel=1e-4)
    assert terms["new_weights"] == pytest.approx(0.7 / 2 * shrink, rel=1e-4, abs=1e-9)
    with torch.no_grad():
        scores = ready.network(batch.inputs).double().numpy()
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    expected = -(batch.targets.numpy() * logs).sum(1).mean()
    assert terms["cross_entropy"] == pytest.approx(expected, rel=1e-4)


def test_it_starts_at_the_start_point():
    method = L2SP()
    ready = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    seen = tiny.items()
    batch = training_batch(seen, torch.arange(8), tiny.recipe(seen), 0, 0)
    assert float(method.loss(ready, batch, 0.0)["start_point"].detach()) == 0


def test_a_stronger_pull_ends_nearer_to_the_source():
    seen, given = tiny.items(), tiny.knowledge()
    recipe = tiny.recipe(seen, steps=25, weight_decay=0)
    distances = []
    for alpha in (0.0, 0.1, 100.0):
        method = L2SP(learning_rate=0.01, alpha=alpha, beta=0)
        ready = method.prepare(tiny.network(), given, tiny.CLASSES)
        kept, _ = fit(method, ready, seen, recipe, seed=0)
        backbone_spec = {n: p for n, p in kept.named_parameters() if n.startswith("backbone.")}
        distances.append(squares(p - given.state[n] for n, p in backbone_spec.items()))
    assert distances[0] > distances[1] > distances[2]


def test_the_reference_is_a_copy_that_training_does_not_move():
    method = L2SP()
    seen = tiny.items()
    ready = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    before = {name: tensor.clone() for name, tensor in ready.reference.items()}
    fit(method, ready, seen, tiny.recipe(seen, steps=3), seed=0)
    assert tiny.same(before, ready.reference)
