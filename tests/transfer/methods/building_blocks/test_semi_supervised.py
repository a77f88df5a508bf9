"""Entropies against SciPy, one pass for all views, and refusals that name what is missing."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from tests.transfer import tiny
from transfer.core.errors import CrosstrainError
from transfer.methods.building_blocks.semi_supervised import (
    SPREAD,
    begin,
    check_classes,
    diversity,
    end,
    mean_entropy,
    pool_of,
    predicted_classes,
    ramp,
    supervised,
    together,
    views_of,
)
from transfer.methods.fine_tuning.fine_tune import FineTune
from transfer.training.method import Batch


def job(labels=24, classes=tiny.CLASSES, pool=True, sources=None):
    seen = tiny.items()
    kept = seen.take(np.arange(24) < labels)
    target = tiny.target(kept) if pool else replace(tiny.target(kept), pool=None)
    given = [tiny.knowledge(classes)] if sources is None else sources
    made = tiny.trainer(FineTune(), kept, tiny.recipe(seen), sources=given, target=target)
    return made.job


def scores(n=40, classes=5, scale=3.0, seed=0):
    return scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


def test_entropies_are_those_of_scipy():
    chances = softmax(scores().double().numpy(), axis=1)
    assert float(mean_entropy(scores())) == pytest.approx(entropy(chances, axis=1).mean(), 1e-5)
    assert float(diversity(scores())) == pytest.approx(entropy(chances.mean(0)), 1e-5)
    assert predicted_classes(scores()) == pytest.approx(np.exp(entropy(chances.mean(0))), 1e-6)


def test_a_collapse_counts_as_one_class_and_sure_balanced_predictions_as_all():
    assert predicted_classes(torch.tensor([[50.0, 0, 0, 0]] * 8)) == pytest.approx(1)
    assert predicted_classes(50 * torch.eye(4).repeat(3, 1)) == pytest.approx(4)
    assert predicted_classes(50 * torch.eye(4)[[0, 1, 0, 1]]) == pytest.approx(2)
    assert predicted_classes(torch.zeros(3, 1)) == 1


def test_entropies_of_extreme_scores_have_finite_slopes():
    extreme = torch.tensor([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]], requires_grad=True)
    (mean_entropy(extreme) + diversity(extreme)).backward()
    assert extreme.grad is not None and extreme.grad.isfinite().all()


def test_the_weight_rises_from_near_nothing_to_one_and_stays():
    assert ramp(0.0, 0.4) == pytest.approx(np.exp(-5))
    assert ramp(0.2, 0.4) == pytest.approx(np.exp(-1.25))
    assert ramp(0.4, 0.4) == ramp(1.0, 0.4) == ramp(0.0, 0.0) == 1.0


def test_sets_that_pass_together_share_the_statistics_of_their_mixture():
    network = tiny.network().train()
    one, two = torch.randn(3, 1, 12, 12), 5 + torch.randn(4, 1, 12, 12)
    joint = copy.deepcopy(network)(torch.cat([one, two]))
    alone = copy.deepcopy(network)(one)
    first, none, second = together(network, one, one[:0], two)
    assert (len(first), len(none), len(second)) == (3, 0, 4)
    torch.testing.assert_close(torch.cat([first, second]), joint)
    assert not torch.allclose(first, alone, atol=1e-3)


def test_no_labelled_item_makes_no_term():
    assert supervised(torch.zeros(0, 3), torch.zeros(0, 3)) == {}
    term = supervised(torch.zeros(2, 4), torch.eye(4)[:2])["cross_entropy"]
    assert float(term) == pytest.approx(np.log(4))


def test_without_labels_a_class_that_the_source_lacks_is_named():
    with pytest.raises(CrosstrainError, match=r"trees lacks .* acer, corylus \(it"):
        begin(FineTune(), job(labels=0, classes=("betula", "fagus")), 1)
    with pytest.raises(CrosstrainError, match="it has none"):
        nameless = replace(tiny.knowledge(), class_names=())
        check_classes(job(sources=[nameless]))


def test_new_classes_are_welcome_where_items_are_labelled():
    made = job(labels=6, classes=("betula", "fagus"))
    assert begin(FineTune(), made, 3).pool_batch == 3 * made.recipe.training.batch_size


def test_a_source_of_more_classes_in_another_order_is_welcome_without_labels():
    begin(FineTune(), job(labels=0, classes=("ulmus", "corylus", "betula", "acer")), 1)


@pytest.mark.parametrize("pool", [None, tiny.pool_of(tiny.items().take(np.zeros(24, bool)))])
def test_a_missing_or_empty_pool_is_named(pool):
    bare = replace(job(), pool=pool)
    with pytest.raises(ValueError, match="unlabelled items and was given none"):
        begin(FineTune(), bare, 1)
    with pytest.raises(ValueError, match="unlabelled items and was given none"):
        pool_of(bare)
    with pytest.raises(ValueError, match="unlabelled items and was given none"):
        views_of(Batch(torch.zeros(1, 1, 2, 2), torch.ones(1, 1)))


def test_a_network_that_is_handed_back_is_finished_and_its_spread_noted():
    network = tiny.network()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor([30.0, 0.0, 0.0]))
    made = end(network, [], job(), extra="said")
    assert made.notes == {"extra": "said", SPREAD: pytest.approx(1.0)}
    assert not made.network.training
    assert not any(p.requires_grad for p in made.network.parameters())
