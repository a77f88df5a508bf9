"""Averages against NumPy, statistics against a measurement by hand, the soup against a search."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.methods.building_blocks.averaging import (
    copied,
    greedy,
    held_out,
    mean,
    mixed,
    reestimate,
)
from transfer.modalities.image.augment import AugmentPolicy


def states(n=3):
    return [tiny.network(seed=seed).state_dict() for seed in range(n)]


def test_a_mixture_is_the_weighted_sum_of_every_tensor():
    given, weights = states(), [0.2, 0.5, 0.3]
    found = mixed(given, weights)
    assert list(found) == list(given[0])
    for name, tensor in found.items():
        if tensor.is_floating_point():
            stack = np.stack([s[name].numpy().astype(float) for s in given])
            expected = np.tensordot(weights, stack, axes=1)
            np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-7)
        assert tensor.dtype == given[0][name].dtype and tensor.shape == given[0][name].shape


def test_a_mean_weighs_all_alike_and_a_share_of_one_gives_the_same_bits():
    one, two = states(2)
    assert tiny.same(mean([one, two]), mixed([one, two], [0.5, 0.5]))
    assert tiny.same(
        mixed([one, two], [0.0, 1.0]), two | {k: v for k, v in one.items() if "num" in k}
    )
    assert tiny.same(mean([one]), one)


def test_a_copy_stays_when_the_network_goes_on():
    network = tiny.network()
    kept, before = copied(network), tiny.state(network)
    with torch.no_grad():
        network.head.weight.add_(1)
    assert tiny.same(kept, before)


def test_statistics_are_those_of_the_items_and_weights_stay():
    """The first layer's, from its convolution's output over all items, standardised by hand."""
    seen = tiny.items()
    recipe = tiny.recipe(seen)
    network = tiny.network().eval()
    network.load_state_dict(tiny.knowledge(tiny.CLASSES).state)
    weights = {name: p.detach().clone() for name, p in network.named_parameters()}
    reestimate(network, seen, recipe, seed=3)
    pixels = seen.records.double() / 255
    standard = (pixels - recipe.normal.mean[0]) / recipe.normal.std[0]
    with torch.no_grad():
        out = network.backbone.stem[0].double()(standard).numpy()  # N x w x H x W
    network.float()
    norm = network.backbone.stem[1]
    np.testing.assert_allclose(norm.running_mean, out.mean((0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(norm.running_var, out.var((0, 2, 3), ddof=1), rtol=1e-4)
    assert tiny.same(dict(network.named_parameters()), weights)
    assert not network.training and norm.momentum == 0.1


def test_statistics_do_not_depend_on_what_they_were_or_on_mixing():
    seen, found = tiny.items(), []
    for start, mixup in ((0.0, 0.0), (5.0, 0.4)):
        network = tiny.network()
        network.backbone.stem[1].running_mean.fill_(start)
        policy = AugmentPolicy(mixup=mixup)
        reestimate(network, seen, tiny.recipe(seen, policy), seed=3)
        found.append(tiny.state(network))
    assert tiny.same(*found)


def test_statistics_of_a_single_item_are_finite():
    seen, network = tiny.items(1), tiny.network()
    reestimate(network, seen, tiny.recipe(seen), seed=0)
    assert all(t.isfinite().all() for t in network.state_dict().values())


def test_held_out_items_take_a_part_of_each_class_and_whole_groups():
    seen = tiny.items(48, groups=[f"g{i // 6}{i % 3}" for i in range(48)])
    held = held_out(seen, 4, seed=1)
    assert 0 < held.sum() < 24
    assert not set(seen.groups[held]) & set(seen.groups[~held])
    for label in range(3):
        own = held[seen.labels.numpy() == label]
        assert own.any() and not own.all()


@pytest.mark.parametrize("seed", range(4))
def test_no_class_is_held_out_altogether(seed):
    seen = tiny.items(9)
    seen = replace(seen, labels=torch.tensor([0] * 7 + [1, 2]))
    held = held_out(seen, 2, seed)
    assert set(seen.labels[~torch.from_numpy(held)].tolist()) == {0, 1, 2}
    single = seen.take(np.arange(9) >= 6)
    assert not held_out(single, 2, seed).any()


def soup_by_hand(values, target):
    """Greedy soup of numbers whose average should be near the target."""
    order = sorted(range(len(values)), key=lambda i: abs(values[i] - target))
    kept = order[:1]
    for i in order[1:]:
        old = abs(np.mean([values[j] for j in kept]) - target)
        if abs(np.mean([values[j] for j in [*kept, i]]) - target) < old:
            kept = [*kept, i]
    return kept


def test_a_greedy_soup_keeps_what_lowers_the_loss_of_the_average():
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(60):
        values = rng.normal(size=7)
        kept = greedy(7, lambda chosen, v=values: abs(np.mean(v[chosen])))
        assert kept == soup_by_hand(values, 0.0)
        sizes.add(len(kept))
    assert len(sizes) > 2


def test_a_greedy_soup_refuses_what_changes_nothing_and_is_at_least_the_best_alone():
    assert greedy(3, lambda chosen: 1.0) == [0]
    assert greedy(1, lambda chosen: 7.0) == [0]
    assert greedy(3, lambda chosen: [3.0, 1.0, 2.0][chosen[0]] + len(chosen)) == [1]
