"""Features are computed once, whoever asks, and never taken for those of something else."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
import torch

from tests.transfer import tiny
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.image.augment import AugmentPolicy
from transfer.modalities.normalisation import Normalisation
from transfer.training.batches import embed
from transfer.training.feature_cache import SEED, Features

SEEN = tiny.items(9)
RECIPE = tiny.recipe(SEEN, AugmentPolicy())


def counted(network):
    """Count the passes through a backbone; the count is a list that grows."""
    passes = []
    network.backbone.register_forward_hook(lambda *_: passes.append(1))
    return passes


@pytest.mark.parametrize("views", [0, 1, 3])
def test_they_are_those_of_embedding(views):
    network = tiny.network()
    found = Features().of(network, SEEN.records, views, RECIPE)
    assert found.shape == (max(1, views), 9, 32)
    assert found.device.type == "cpu"
    assert torch.equal(found, embed(network, SEEN.records, views, RECIPE, SEED))


def test_they_are_computed_once_and_the_backbone_of_another_arm_that_is_equal_counts_as_the_same():
    features, network, equal = Features(), tiny.network(), tiny.network()
    with torch.no_grad():
        equal.head.weight.add_(1.0)  # the head has no part in features
    passes = [counted(network), counted(equal)]
    first = features.of(network, SEEN.records, 2, RECIPE)
    again = features.of(equal, SEEN.records.clone(), 2, RECIPE)
    assert torch.equal(first, again)
    assert [len(one) for one in passes] == [2, 0]  # one pass a view


def test_threads_that_ask_at_once_wait_for_the_first():
    features, network, together = Features(), tiny.network(), Barrier(4)
    passes = counted(network)

    def ask(_):
        together.wait(timeout=30)
        return features.of(network, SEEN.records, 3, RECIPE)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert len(passes) == 3
    assert all(torch.equal(one, found[0]) for one in found)


def test_threads_that_ask_for_others_at_once_each_get_their_own():
    features, together = Features(), Barrier(4)
    networks = [tiny.network(seed=s) for s in range(4)]

    def ask(network):
        together.wait(timeout=30)
        return features.of(network, SEEN.records, 1, RECIPE)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, networks))
    for network, one in zip(networks, found, strict=True):
        assert torch.equal(one, embed(network, SEEN.records, 1, RECIPE, SEED))


def test_a_memory_that_failed_can_be_asked_again():
    features, network = Features(), tiny.network()
    with pytest.raises(RuntimeError):
        features.of(network, SEEN.records[:, :, :0], 0, RECIPE)
    hook = network.backbone.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        features.of(network, SEEN.records, 0, RECIPE)
    hook.remove()
    assert features.of(network, SEEN.records, 0, RECIPE).shape == (1, 9, 32)


def inverted(images):
    return 255 - images


def fine():
    """A backbone of the same tensors that keeps the resolution."""
    return tiny.network(
        backbone_spec=BackboneSpec(name="resnet", options={"width": 4, "pool": False})
    )


OTHERS = {
    "another backbone": (tiny.network(seed=1), SEEN.records, 1, RECIPE),
    "a backbone of the same tensors with other options": (fine(), SEEN.records, 1, RECIPE),
    "other images": (tiny.network(), inverted(SEEN.records), 1, RECIPE),
    "the images in another order": (tiny.network(), SEEN.records.flip(0), 1, RECIPE),
    "the images as they are": (tiny.network(), SEEN.records, 0, RECIPE),
    "more views": (tiny.network(), SEEN.records, 2, RECIPE),
    "another augmentation": (
        tiny.network(),
        SEEN.records,
        1,
        replace(RECIPE, policy=AugmentPolicy(rotate=40)),
    ),
    "another standardisation": (
        tiny.network(),
        SEEN.records,
        1,
        replace(RECIPE, normal=Normalisation(mean=(0.1,), std=(0.9,))),
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_others_are_not_taken_for_them(case):
    features, (network, images, views, recipe) = Features(), OTHERS[case]
    before = features.of(tiny.network(), SEEN.records, 1, RECIPE)
    found = features.of(network, images, views, recipe)
    assert torch.equal(found, embed(network, images, views, recipe, SEED))
    assert found.shape != before.shape or not torch.equal(found, before)


def test_one_tensor_of_a_backbone_that_differs_makes_it_another_batch_statistics_included():
    features, network, other = Features(), tiny.network(), tiny.network()
    features.of(network, SEEN.records, 0, RECIPE)
    name, statistic = next((k, v) for k, v in other.backbone.named_buffers() if k.endswith("mean"))
    statistic.add_(0.5)
    passes = counted(other)
    features.of(other, SEEN.records, 0, RECIPE)
    assert passes, name
