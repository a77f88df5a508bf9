"""Reptile against closed forms and NumPy, its episodes, and its memory."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.transfer import tiny
from transfer.core.errors import CrosstrainError, DataRefusedError
from transfer.methods.building_blocks import reptile_loop
from transfer.methods.building_blocks.reptile_loop import (
    Memory,
    Plan,
    draw,
    inner_steps,
    outer_step,
    reptile,
)
from transfer.modalities.backbone import Backbone
from transfer.training.batches import source_batch

NAMES = ("alnus", "betula", "fagus", "quercus")
SHORT = Plan(episodes=2, ways=2, shots=2, inner_steps=2)


class Pixels(Backbone):
    """One learned number for each of the pixels: features (N, H W) = pixels * weight."""

    def __init__(self, pixels):
        super().__init__()
        self.out_features = pixels
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, pixels))

    def forward(self, images):
        return images.flatten(1) * self.weight


def source(n=24):
    return tiny.source(n, NAMES)


def recipe():
    return tiny.recipe(tiny.items())


def backbone_spec(seed=0):
    return tiny.network(seed=seed).backbone


def test_inner_and_outer_steps_on_a_parabola_are_those_of_the_formula():
    """L(w) = |w - c|^2 / 2: after T steps w_T - c = (1 - a)^T (w_0 - c)."""
    start, goal, a, e, steps = np.array([3.0, -2.0]), np.array([1.0, 1.0]), 0.1, 0.25, 4
    module = nn.ParameterList([torch.tensor(start)])
    theta = {"0": torch.tensor(start)}
    inner_steps(module, lambda t: (module[0] - torch.tensor(goal)).square().sum() / 2, steps, a)
    end = goal + (1 - a) ** steps * (start - goal)
    np.testing.assert_allclose(module[0].detach(), end)
    moved = outer_step(theta, module.state_dict(), e)
    np.testing.assert_allclose(moved["0"], start + e * (end - start))
    np.testing.assert_array_equal(theta["0"], start)


def test_an_outer_step_leaves_counts_alone():
    theta, end = {"n": torch.tensor(3)}, {"n": torch.tensor(9)}
    assert outer_step(theta, end, 1.0)["n"] == 3


def test_a_whole_episode_is_gradient_descent_of_softmax_regression():
    """A linear backbone: features x * w, a head V of its own, cross-entropy; gradients by hand."""
    seen, told, given = source(), Plan(episodes=1, ways=2, shots=3, inner_steps=3), recipe()
    backbone = Pixels(tiny.SIDE**2)
    episode = draw(seen.items.labels, told, 0)
    w = backbone.weight.detach().double().numpy()
    fresh = reptile_loop._head(tiny.SIDE**2, 2, reptile_loop.generator(told.seed, 0, 8))
    v, b = fresh.weight.detach().double().numpy(), np.zeros(2)
    for t in range(3):
        batch = source_batch(seen, episode.rows, given, told.seed, t)
        x = batch.inputs.flatten(1).double().numpy()
        y = (seen.items.labels[episode.rows][:, None] == episode.classes).double().numpy()
        z = (x * w) @ v.T + b
        p = np.exp(z - z.max(axis=1, keepdims=True))
        error = (p / p.sum(axis=1, keepdims=True) - y) / len(x)
        slopes = ((error @ v) * x).sum(axis=0), error.T @ (x * w), error.sum(axis=0)
        w, v, b = (now - told.inner_rate * g for now, g in zip((w, v, b), slopes, strict=True))
    start = backbone.weight.detach().double().numpy()
    learned = reptile(backbone, seen, told, given)
    expected = start + told.outer_rate * (w - start)
    np.testing.assert_allclose(learned.state["weight"], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - start).max() > 1e-3
    assert learned.items == 2 * 3 * 3


@pytest.mark.parametrize("number", range(5))
def test_an_episode_draws_items_of_its_classes_without_repeats(number):
    labels = torch.tensor([0, 0, 0, 2, 2, 5, 5, 5, 5, 7])
    found = draw(labels, Plan(ways=3, shots=2), number)
    assert len(found.classes.unique()) == 3 and set(found.classes.tolist()) <= {0, 2, 5, 7}
    assert len(found.rows.unique()) == len(found.rows)
    for label in found.classes:
        n = int((labels == label).sum())
        assert int((labels[found.rows] == label).sum()) == min(2, n)
    assert set(labels[found.rows].tolist()) == set(found.classes.tolist())


def test_episodes_differ_and_come_again():
    labels = torch.arange(200) % 10
    one, again, two = (draw(labels, Plan(), number) for number in (1, 1, 2))
    assert torch.equal(one.rows, again.rows)
    assert not torch.equal(one.rows, two.rows)
    assert not torch.equal(one.rows, draw(labels, Plan(seed=1), 1).rows)


def test_the_backbone_and_the_global_generator_do_not_change():
    net, rng_state = backbone_spec(), torch.get_rng_state()
    before = tiny.state(net)
    learned = reptile(net, source(), SHORT, recipe())
    assert tiny.same(net.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), rng_state)
    assert list(learned.state) == list(before)
    assert not tiny.same(learned.state, before)


def test_it_helps_to_tell_classes_of_new_episodes_apart():
    """After Reptile, a few steps on an episode not seen before leave a lower loss."""
    seen, told = source(80), Plan(episodes=20, ways=2, outer_rate=1.0)

    def loss_after(state):
        worker, found = backbone_spec(), []
        for number in range(100, 104):
            worker.load_state_dict(state)
            worker.train()
            episode = draw(seen.items.labels, told, number)
            reptile_loop._learn(worker, episode, seen, told, recipe(), number)
            found.append(separation(worker, episode, seen))
        return np.mean(found)

    assert loss_after(reptile(backbone_spec(), seen, told, recipe()).state) < loss_after(
        tiny.state(backbone_spec())
    )


def separation(worker, episode, seen):
    """Squared distance within classes over that between them."""
    with torch.no_grad():
        features = worker(source_batch(seen, episode.rows, recipe(), 0, 0).inputs).numpy()
    labels = seen.items.labels[episode.rows].numpy()
    one, two = (features[labels == label] for label in episode.classes.numpy())
    within = one.var(axis=0).sum() + two.var(axis=0).sum()
    return within / ((one.mean(axis=0) - two.mean(axis=0)) ** 2).sum()


def test_one_class_is_refused():
    with pytest.raises(DataRefusedError, match=r"items of 1 class .* expected 2 or more"):
        reptile(backbone_spec(), tiny.source(8, ("betula",)), SHORT, recipe())


def test_steps_that_diverge_are_an_error_that_names_the_setting():
    wild = SHORT.model_copy(update={"inner_rate": 1e30, "episodes": 3})
    with pytest.raises(CrosstrainError, match=r"lower methods\.reptile.meta\.inner_rate"):
        reptile(backbone_spec(), source(), wild, recipe())


def test_the_memory_makes_the_same_once_and_what_differs_anew():
    memory, seen, given = Memory(), source(), recipe()
    first = memory.of(backbone_spec(), seen, SHORT, given)
    assert memory.of(backbone_spec(), source(), SHORT, recipe()) is first
    items = seen.items
    moved = replace(items, labels=items.labels.roll(1))
    darker = replace(items, records=items.records // 2)
    changed = [
        (backbone_spec(1), seen, SHORT, given),
        (backbone_spec(), replace(seen, items=moved), SHORT, given),
        (backbone_spec(), replace(seen, items=darker), SHORT, given),
        (backbone_spec(), seen, SHORT.model_copy(update={"seed": 1}), given),
        (backbone_spec(), seen, SHORT, replace(given, source_policy=tiny.AugmentPolicy())),
    ]
    for told in changed:
        assert not tiny.same(memory.of(*told).state, first.state)


def test_the_memory_is_what_reptile_makes():
    told = backbone_spec(), source(), SHORT, recipe()
    assert tiny.same(Memory().of(*told).state, reptile(*told).state)


def test_threads_share_one_result():
    memory = Memory()
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(lambda _: memory.of(backbone_spec(), source(), SHORT, recipe()), range(4))
        )
    assert all(one is made[0] for one in made)


def test_the_memory_keeps_the_latest_few():
    memory, plans = Memory(most=1), [SHORT, SHORT.model_copy(update={"seed": 1})]
    first, _ = (memory.of(backbone_spec(), source(), plan, recipe()) for plan in plans)
    again = memory.of(backbone_spec(), source(), SHORT, recipe())
    assert again is not first and tiny.same(again.state, first.state)
