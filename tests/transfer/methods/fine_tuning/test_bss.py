"""The shrinkage against NumPy, and that it shrinks."""

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.core.errors import CrosstrainError
from transfer.methods.fine_tuning.bss import BatchSpectralShrinkage, smallest_squares
from transfer.training.batches import training_batch
from transfer.training.loop import fit


def by_gram(features, k):
    """The k smallest eigenvalues of the smaller Gram matrix of a batch."""
    gram = features @ features.T if len(features) < features.shape[1] else features.T @ features
    return np.linalg.eigvalsh(gram)[:k].sum()


def ready_with_batch(method, n=8):
    ready = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    seen = tiny.items()
    return ready, training_batch(seen, torch.arange(n), tiny.recipe(seen), 0, 0)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (7, 7)])
@pytest.mark.parametrize("k", [1, 3])
def test_the_smallest_squares_are_eigenvalues_of_the_gram_matrix(shape, k):
    features = np.random.default_rng(1).normal(size=shape)
    found = float(smallest_squares(torch.tensor(features), k))
    assert found == pytest.approx(by_gram(features, k), rel=1e-4)


def test_they_are_those_of_a_diagonal_matrix():
    features = torch.diag(torch.tensor([5.0, 2.0, 3.0, 7.0]))
    assert float(smallest_squares(features, 2)) == pytest.approx(4 + 9)


def test_more_than_there_are_is_the_whole_energy():
    features = np.random.default_rng(2).normal(size=(4, 9))
    found = float(smallest_squares(torch.tensor(features), 99))
    assert found == pytest.approx((features**2).sum(), rel=1e-5)


def test_their_slope_is_that_of_finite_differences():
    features = np.random.default_rng(3).normal(size=(5, 4))
    leaf = torch.tensor(features, dtype=torch.float32, requires_grad=True)
    smallest_squares(leaf, 2).backward()
    expected = np.zeros_like(features)
    for i, j in np.ndindex(features.shape):
        step = np.zeros_like(features)
        step[i, j] = 1e-5
        expected[i, j] = (by_gram(features + step, 2) - by_gram(features - step, 2)) / 2e-5
    np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_a_batch_of_equal_rows_costs_nothing_and_has_a_finite_slope():
    features = torch.ones(6, 4, requires_grad=True)
    found = smallest_squares(features, 2)
    found.backward()
    assert float(found.detach()) == pytest.approx(0, abs=1e-8)
    assert features.grad.isfinite().all()


def test_its_terms_are_those_of_the_paper():
    method = BatchSpectralShrinkage(eta=0.3, k=2)
    ready, batch = ready_with_batch(method)
    terms = {k: float(v.detach()) for k, v in method.loss(ready, batch, 0.0).items()}
    with torch.no_grad():
        features = ready.network.backbone(batch.inputs)
        scores = ready.network.head(features).double().numpy()
    expected = 0.3 * by_gram(features.double().numpy(), 2)
    assert terms["shrinkage"] == pytest.approx(expected, rel=1e-3)
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    assert terms["cross_entropy"] == pytest.approx(
        -(batch.targets.numpy() * logs).sum(1).mean(), rel=1e-4
    )


def test_training_with_it_ends_with_smaller_singular_values():
    seen, found = tiny.items(), []
    recipe = tiny.recipe(seen, steps=25, weight_decay=0, average=0)
    for eta in (0.0, 0.1):
        method = BatchSpectralShrinkage(learning_rate=0.01, eta=eta, k=2)
        ready, batch = ready_with_batch(method)
        kept, _ = fit(method, ready, seen, recipe, seed=0)
        features = kept.train().backbone(batch.inputs).double().numpy()
        found.append(by_gram(features, 2))
    assert found[1] < 0.5 * found[0]


def test_a_training_that_diverges_is_reported_as_such():
    method, seen = BatchSpectralShrinkage(), tiny.items()
    ready, _ = ready_with_batch(method)
    with torch.no_grad():
        ready.network.backbone.stages()[0][0].weight.fill_(torch.nan)
    with pytest.raises(CrosstrainError, match="lower its learning rate"):
        fit(method, ready, seen, tiny.recipe(seen, steps=2), seed=0)
