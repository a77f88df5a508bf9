"""Centroids and the loss against NumPy and SciPy, and the rounds in which labels are found."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from torch import nn

from tests.transfer import tiny
from transfer.methods.building_blocks.semi_supervised import SPREAD
from transfer.methods.self_training.shot import Labeller, Shot, centroid_labels
from transfer.training.batches import pool_batch, to_input, training_batch

SAME = tiny.knowledge(tiny.CLASSES)


def by_hand(features, chances):
    """SHOT's pseudo-labels, class by class."""
    classes = range(chances.shape[1])
    centroids = [np.average(features, axis=0, weights=chances[:, k]) for k in classes]
    labels = cdist(features, np.stack(centroids), "cosine").argmin(1)
    for k in classes:
        if (labels == k).any():
            centroids[k] = features[labels == k].mean(0)
    return cdist(features, np.stack(centroids), "cosine").argmin(1)


@pytest.mark.parametrize("seed", range(4))
def test_pseudo_labels_are_those_of_weighted_centroids(seed):
    rng = np.random.default_rng(seed)
    features = rng.exponential(size=(60, 7))
    chances = rng.dirichlet([0.3] * 5, 60)
    found = centroid_labels(torch.from_numpy(features), torch.from_numpy(chances))
    assert found.tolist() == by_hand(features, chances).tolist()
    assert len(set(found.tolist())) > 1


def test_a_cluster_outvotes_single_wrong_predictions():
    features = torch.tensor([[1.0, 0.05]] * 5 + [[0.05, 1.0]] * 5)
    chances = torch.tensor([[0.9, 0.1]] * 4 + [[0.3, 0.7]] + [[0.1, 0.9]] * 5)
    assert chances.argmax(1).tolist() == [0] * 4 + [1] * 6
    assert centroid_labels(features, chances).tolist() == [0] * 5 + [1] * 5


def test_a_class_that_is_nearest_to_no_item_keeps_its_first_centroid():
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    chances = torch.tensor([[0.7, 0.1, 0.2], [0.7, 0.1, 0.2], [0.1, 0.8, 0.1]])
    assert centroid_labels(features, chances).tolist() == [0, 0, 1]
    assert centroid_labels(torch.zeros(3, 2), chances).tolist() == [0, 0, 0]


def test_one_class_is_the_label_of_all():
    assert centroid_labels(torch.rand(4, 3), torch.ones(4, 1)).tolist() == [0] * 4


def labeller(images=None):
    seen = tiny.items()
    return Labeller(tiny.pool() if images is None else images, tiny.recipe(seen))


@pytest.mark.parametrize("labelled", [0, 6])
def test_its_terms_are_those_of_the_paper(labelled):
    method = Shot(weight=0.4, diversity=0.8)
    ready = method.prepare(tiny.network(), SAME, tiny.CLASSES)
    ready.helpers["labeller"] = labeller()
    ready.helpers["labeller"].labels.copy_(torch.arange(20) % 3)
    recipe = tiny.recipe(tiny.items())
    pool = pool_batch(tiny.pool(), torch.arange(10).flip(0), recipe, None, 0, 0)
    batch = replace(training_batch(tiny.items(), torch.arange(labelled), recipe, 0, 0), pool=pool)
    with torch.no_grad():
        terms = {k: float(v) for k, v in method.loss(ready, batch, 0.0).items()}
        found = ready.network(torch.cat([batch.inputs, pool.weak])).double().numpy()
    chances, logs = softmax(found[labelled:], axis=1), log_softmax(found[labelled:], axis=1)
    labels = pool.rows.numpy() % 3
    expected = {
        "entropy": entropy(chances, axis=1).mean(),
        "diversity": -0.8 * entropy(chances.mean(0)),
        "pseudo_labels": -0.4 * logs[np.arange(10), labels].mean(),
    }
    if labelled:
        each = log_softmax(found[:labelled], axis=1) * batch.targets.numpy()
        expected["cross_entropy"] = -each.sum(1).mean()
    assert terms == pytest.approx(expected, rel=1e-4)


def test_labels_are_found_from_features_of_the_pool_as_it_is():
    network, made = tiny.network(seed=3), labeller()
    made.reach(0, network)
    inputs = to_input(tiny.pool().records, made.recipe)
    with torch.no_grad():
        features = network.eval().backbone(inputs)
        chances = softmax(network.head(features).double().numpy(), axis=1)
    assert made.labels.tolist() == by_hand(features.double().numpy(), chances).tolist()


def test_labels_are_found_anew_only_when_a_round_begins(monkeypatch):
    found = []
    monkeypatch.setattr(
        "transfer.methods.self_training.shot.centroid_labels",
        lambda features, chances: found.append(len(features)) or chances.argmax(1),
    )
    seen = tiny.items()
    recipe = tiny.recipe(seen, steps=12)
    none = seen.take(np.zeros(24, bool))
    tiny.trainer(Shot(rounds=3), none, recipe, sources=[SAME]).train()
    assert found == [20, 20, 20]


def test_the_head_stays_the_sources_where_it_knows_every_class():
    seen = tiny.items()
    recipe = tiny.recipe(seen, steps=5)
    result = tiny.trainer(Shot(), seen, recipe, sources=[SAME]).train()
    state = result.network.state_dict()
    assert torch.equal(state["head.weight"], SAME.state["head.weight"])
    assert not torch.equal(state["backbone.stem.0.weight"], SAME.state["backbone.stem.0.weight"])
    assert 1 <= result.notes[SPREAD] <= 3


def test_the_head_learns_where_classes_are_new():
    ready = Shot().prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    assert all(p.requires_grad for p in ready.network.head.parameters())
    assert isinstance(ready.network.head, nn.Linear)
