"""What the advisor reads of a source is what its frozen network says of the items."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from tests.transfer import tiny
from transfer.modalities.normalisation import Normalisation
from transfer.models.parameter_transfer import Knowledge
from transfer.transferability import source_probing as library
from transfer.transferability.advisor import advise
from transfer.transferability.source_probing import candidate

SEEN = tiny.items()
RECIPE = tiny.recipe(SEEN)
OWN = Normalisation(mean=(0.2,), std=(0.15,))
PACKED = Normalisation(mean=(0.6,), std=(0.5,))


@pytest.fixture(scope="module")
def source():
    """Items with statistics that are neither the target's nor those of the network's training."""
    return replace(tiny.source(), normal=OWN)


def package(class_names=()):
    """A body as a package brings it: no classes, and a normalisation to go on with."""
    state = {n: t for n, t in tiny.state(tiny.network(2, seed=5)).items() if "head" not in n}
    return Knowledge("imagenet", class_names, state, tiny.BODY, PACKED, fixed_normal=True)


def passed(knowledge, images, normal):
    """Features, and class probabilities by the source's head, calculated in NumPy at the ends."""
    net = tiny.network(max(1, len(knowledge.class_names)), images.shape[1])
    net.load_state_dict(dict(knowledge.state), strict=False)
    net.eval()
    shape = (1, -1, 1, 1)
    mean, std = (np.array(told).reshape(shape) for told in (normal.mean, normal.std))
    pixels = ((images.numpy() / 255 - mean) / std).astype(np.float32)
    with torch.no_grad():
        features = net.backbone(torch.from_numpy(pixels)).numpy()
    state = {name: tensor.numpy() for name, tensor in knowledge.state.items()}
    if not knowledge.class_names:
        return features, None
    return features, softmax(features @ state["head.weight"].T + state["head.bias"], axis=1)


def close(found, wanted):
    return found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_features_and_probabilities_are_the_sources_own(source):
    known = tiny.knowledge()
    found = candidate(known, SEEN, source, RECIPE)
    features, probabilities = passed(known, SEEN.records, RECIPE.normal)
    assert (found.name, found.source_classes) == ("trees", ("betula", "fagus"))
    assert close(found.features, features)
    assert close(found.probabilities, probabilities)
    assert found.probabilities.sum(1) == pytest.approx(1)


def test_all_rows_of_the_head_are_the_sources_in_its_order(source):
    """The target's classes are in another order, and one of them the source lacks."""
    known = tiny.knowledge(tiny.CLASSES[::-1])
    found = candidate(known, SEEN, source, RECIPE)
    assert close(found.probabilities, passed(known, SEEN.records, RECIPE.normal)[1])


@pytest.mark.parametrize("normal", [OWN, tiny.NORMAL, RECIPE.normal], ids=["own", "card", "target"])
def test_source_items_are_standardised_by_the_sources_statistics(source, normal):
    known = tiny.knowledge()
    found = candidate(known, SEEN, source, RECIPE)
    wanted = passed(known, source.items.records, normal)[0]
    assert close(found.source_features, wanted) == (normal == OWN)


def test_where_the_sources_items_are_not_at_hand_there_are_no_features_of_them():
    assert candidate(tiny.knowledge(), SEEN, None, RECIPE).source_features is None


def test_a_package_has_features_and_no_probabilities():
    found = candidate(package(), SEEN, None, RECIPE)
    assert found.probabilities is None and found.source_classes == ()
    assert close(found.features, passed(package(), SEEN.records, PACKED)[0])


def test_a_package_goes_on_with_its_own_normalisation_for_all_items(source):
    found = candidate(package(), SEEN, source, RECIPE)
    assert not close(found.features, passed(package(), SEEN.records, RECIPE.normal)[0])
    assert close(found.source_features, passed(package(), source.items.records, PACKED)[0])


def test_colour_and_grey_both_pass():
    colour = tiny.items(channels=3)
    known = tiny.knowledge(channels=3)
    found = candidate(known, colour, tiny.source(channels=3), tiny.recipe(colour))
    assert close(found.features, passed(known, colour.records, tiny.recipe(colour).normal)[0])


def test_no_item_is_varied_and_nothing_is_learned(source):
    """Twice the same, whatever the policy; and the source's tensors stay as they are."""
    known = tiny.knowledge()
    before = {name: tensor.clone() for name, tensor in known.state.items()}
    wild = replace(RECIPE, policy=tiny.STILL.model_copy(update={"rotate": 90.0, "noise": 0.5}))
    one, two = (candidate(known, SEEN, source, how) for how in (RECIPE, wild))
    for name in ("features", "source_features", "probabilities"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert tiny.same(before, dict(known.state))


@pytest.mark.parametrize("items", [7, 8, 9, 15, 16, 17, 30])
def test_at_most_so_many_source_items_are_looked_at(monkeypatch, items):
    monkeypatch.setattr(library, "MOST", 8)
    found = candidate(tiny.knowledge(), SEEN, tiny.source(items), RECIPE)
    assert 4 <= len(found.source_features) <= 8


def test_of_many_source_items_every_class_is_looked_at(monkeypatch):
    """Classes follow one another in turn, so that every third item would be of one class."""
    monkeypatch.setattr(library, "MOST", 12)
    known, given = tiny.knowledge(tiny.CLASSES), tiny.source(36, tiny.CLASSES)
    found = candidate(known, SEEN, given, RECIPE).source_features
    everything = passed(known, given.items.records, given.normal)[0]
    rows = [int(np.abs(everything - row).sum(1).argmin()) for row in found]
    assert np.bincount(given.items.labels.numpy()[rows], minlength=3).tolist() == [4, 4, 4]


def test_the_advisor_ranks_a_trained_source_before_a_random_one(source):
    known = tiny.knowledge(tiny.CLASSES)
    random = replace(known, source="noise", state=tiny.network(3, seed=9).state_dict())
    both = [candidate(one, SEEN, source, RECIPE) for one in (random, known)]
    ranked = advise(both, SEEN.labels.numpy(), tiny.CLASSES)
    assert [one.name for one in ranked] == ["trees", "noise"]
