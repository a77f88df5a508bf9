"""The advisor reads the outputs of a source's frozen network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from tests.transfer import tiny
from transfer.modalities.normalisation import Normalisation
from transfer.models.parameter_transfer import Knowledge
from transfer.transferability import source_probing
from transfer.transferability.advisor import advise
from transfer.transferability.source_probing import candidate

ITEMS = tiny.items()
RECIPE = tiny.recipe(ITEMS)
OWN = Normalisation(mean=(0.2,), std=(0.15,))
PACKED = Normalisation(mean=(0.6,), std=(0.5,))


@pytest.fixture(scope="module")
def source():
    """Items with statistics that are neither the target's nor those of the network's training."""
    return replace(tiny.source(), normal=OWN)


def pretrained_package(class_names=()):
    """Pretrained weights from a package: no classes, and a normalisation that must be kept."""
    state = {n: t for n, t in tiny.state(tiny.network(2, seed=5)).items() if "head" not in n}
    return Knowledge("imagenet", class_names, state, tiny.BODY, PACKED, fixed_normal=True)


def passed(knowledge, images, normal):
    """Features, and class probabilities by the source's head, calculated in NumPy at the ends."""
    network = tiny.network(max(1, len(knowledge.class_names)), images.shape[1])
    network.load_state_dict(dict(knowledge.state), strict=False)
    network.eval()
    shape = (1, -1, 1, 1)
    mean, std = (np.array(statistics).reshape(shape) for statistics in (normal.mean, normal.std))
    pixels = ((images.numpy() / 255 - mean) / std).astype(np.float32)
    with torch.no_grad():
        features = network.backbone(torch.from_numpy(pixels)).numpy()
    state = {name: tensor.numpy() for name, tensor in knowledge.state.items()}
    if not knowledge.class_names:
        return features, None
    return features, softmax(features @ state["head.weight"].T + state["head.bias"], axis=1)


def close(actual, expected):
    return actual.shape == expected.shape and np.allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_features_and_probabilities_are_the_sources_own(source):
    knowledge = tiny.knowledge()
    probed = candidate(knowledge, ITEMS, source, RECIPE)
    features, probabilities = passed(knowledge, ITEMS.records, RECIPE.normal)
    assert (probed.name, probed.source_classes) == ("trees", ("betula", "fagus"))
    assert close(probed.features, features)
    assert close(probed.probabilities, probabilities)
    assert probed.probabilities.sum(1) == pytest.approx(1)


def test_all_rows_of_the_head_are_the_sources_in_its_order(source):
    """The target's classes are in another order, and the source lacks a class of the target."""
    knowledge = tiny.knowledge(tiny.CLASSES[::-1])
    probed = candidate(knowledge, ITEMS, source, RECIPE)
    assert close(probed.probabilities, passed(knowledge, ITEMS.records, RECIPE.normal)[1])


@pytest.mark.parametrize("normal", [OWN, tiny.NORMAL, RECIPE.normal], ids=["own", "card", "target"])
def test_source_items_are_standardised_by_the_sources_statistics(source, normal):
    knowledge = tiny.knowledge()
    probed = candidate(knowledge, ITEMS, source, RECIPE)
    expected = passed(knowledge, source.items.records, normal)[0]
    assert close(probed.source_features, expected) == (normal == OWN)


def test_without_the_sources_items_there_are_no_source_features():
    assert candidate(tiny.knowledge(), ITEMS, None, RECIPE).source_features is None


def test_a_package_has_features_and_no_probabilities():
    probed = candidate(pretrained_package(), ITEMS, None, RECIPE)
    assert probed.probabilities is None and probed.source_classes == ()
    assert close(probed.features, passed(pretrained_package(), ITEMS.records, PACKED)[0])


def test_a_package_keeps_its_own_normalisation_for_all_items(source):
    probed = candidate(pretrained_package(), ITEMS, source, RECIPE)
    assert not close(probed.features, passed(pretrained_package(), ITEMS.records, RECIPE.normal)[0])
    assert close(
        probed.source_features, passed(pretrained_package(), source.items.records, PACKED)[0]
    )


def test_colour_images_are_probed_too():
    colour = tiny.items(channels=3)
    knowledge = tiny.knowledge(channels=3)
    probed = candidate(knowledge, colour, tiny.source(channels=3), tiny.recipe(colour))
    assert close(probed.features, passed(knowledge, colour.records, tiny.recipe(colour).normal)[0])


def test_no_item_is_augmented_and_nothing_is_trained(source):
    """Every policy gives the same result, and the source's tensors do not change."""
    knowledge = tiny.knowledge()
    before = {name: tensor.clone() for name, tensor in knowledge.state.items()}
    varied_recipe = replace(
        RECIPE, policy=tiny.STILL.model_copy(update={"rotate": 90.0, "noise": 0.5})
    )
    plain, varied = (
        candidate(knowledge, ITEMS, source, recipe) for recipe in (RECIPE, varied_recipe)
    )
    for name in ("features", "source_features", "probabilities"):
        assert np.array_equal(getattr(plain, name), getattr(varied, name))
    assert tiny.same(before, dict(knowledge.state))


@pytest.mark.parametrize("items", [7, 8, 9, 15, 16, 17, 30])
def test_the_number_of_source_items_is_limited(monkeypatch, items):
    monkeypatch.setattr(source_probing, "MAX_SOURCE_ITEMS", 8)
    probed = candidate(tiny.knowledge(), ITEMS, tiny.source(items), RECIPE)
    assert 4 <= len(probed.source_features) <= 8


def test_of_many_source_items_every_class_is_sampled(monkeypatch):
    """Classes alternate, so that taking every third item would give a single class."""
    monkeypatch.setattr(source_probing, "MAX_SOURCE_ITEMS", 12)
    knowledge, source = tiny.knowledge(tiny.CLASSES), tiny.source(36, tiny.CLASSES)
    features = candidate(knowledge, ITEMS, source, RECIPE).source_features
    all_features = passed(knowledge, source.items.records, source.normal)[0]
    rows = [int(np.abs(all_features - row).sum(1).argmin()) for row in features]
    assert np.bincount(source.items.labels.numpy()[rows], minlength=3).tolist() == [4, 4, 4]


def test_the_advisor_ranks_a_trained_source_before_a_random_one(source):
    knowledge = tiny.knowledge(tiny.CLASSES)
    random = replace(knowledge, source="noise", state=tiny.network(3, seed=9).state_dict())
    candidates = [candidate(item, ITEMS, source, RECIPE) for item in (random, knowledge)]
    ranked = advise(candidates, ITEMS.labels.numpy(), tiny.CLASSES)
    assert [item.name for item in ranked] == ["trees", "noise"]
