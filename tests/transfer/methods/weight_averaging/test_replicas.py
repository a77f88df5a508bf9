"""Replicas: how items and steps are cut, that merges are earned, and one round by hand."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.transfer import tiny
from transfer.methods.weight_averaging import replicas
from transfer.methods.weight_averaging.replicas import Replicas, best_beside, measure
from transfer.training.batches import logits, to_input

MERGES = ("uniform", "weighted", "greedy", "clipped")


def groups(n):
    return [f"g{i // 2}" for i in range(n)]


def trainer(method, n=36, **budget):
    seen = tiny.items(n, groups=groups(n))
    return tiny.trainer(method, seen, tiny.recipe(seen, **budget))


def told(result):
    """What the notes say of the merge: its fate, and both figures."""
    found = re.fullmatch(r"(\w+): ([\d.]+) of (\d+) items right, ([\d.]+) by .*", result["merge"])
    return found[1], float(found[2]), int(found[3]), float(found[4])


def share_right(network, items, recipe):
    return float((logits(network, items.records, recipe).argmax(1) == items.labels).float().mean())


@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 9))
def test_all_phases_together_have_the_budget_of_one_model(steps, most, rounds):
    count = min(most, steps)
    found = replicas._phases(steps, count, rounds)
    assert sum(map(sum, found)) == steps
    assert 1 <= len(found) <= rounds and all(len(each) == count for each in found)
    flat = [n for each in found for n in each]
    assert min(flat) >= 1 and max(flat) - min(flat) <= 1
    assert len(found) == 1 or min(flat) >= replicas.LEAST


def test_the_loop_makes_no_more_steps_than_the_budget():
    one = trainer(Replicas(replicas=3, rounds=2), steps=31)
    notes = one.train().notes
    assert (one.steps, one.phases) == (31, 6)
    assert (notes["replicas"], notes["rounds"]) == (3, 2)


def test_the_peak_falls_from_round_to_round():
    found = [replicas._peak(i, 4) for i in range(4)]
    np.testing.assert_allclose(found, [np.cos(np.pi * i / 8) ** 2 for i in range(4)])


@pytest.mark.parametrize("held", [0.0, 0.25])
def test_items_are_cut_once_by_groups_with_all_classes_everywhere(held):
    cut = Replicas(replicas=3, held=held, few=0)._cut(trainer(Replicas(), n=72).job)
    parts = [cut.take(k) for k in range(cut.count)] + ([cut.held] if held else [])
    assert cut.count == 3 and (len(cut.held) > 0) == (held > 0)
    ids = [key for part in parts for key in part.ids.tolist()]
    assert sorted(ids) == [f"0/{i:03d}.png" for i in range(72)]
    owned = [set(part.groups) for part in parts]
    assert sum(map(len, owned)) == len(set().union(*owned)) == 36
    assert all(set(part.labels.tolist()) == {0, 1, 2} for part in parts)
    assert len(cut.held) == pytest.approx(72 * held, abs=6)


def test_few_items_are_all_trained_on():
    job = trainer(Replicas(), n=36).job
    assert len(Replicas(few=37, held=0.2)._cut(job).held) == 0
    assert len(Replicas(few=36, held=0.2)._cut(job).held) > 0


def test_a_class_is_never_held_as_a_whole():
    seen = tiny.items(9)
    seen.labels[:] = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 2])
    for seed in range(6):
        held = replicas._held(seen, 2, seed)
        assert set(seen.labels[torch.from_numpy(~held)].tolist()) == {0, 1, 2}
        assert held.any()


def test_held_items_are_not_trained_on():
    """One step leaves one replica, whose merge is itself: only training could leave a trace."""
    made = []
    for change in (0, 99):
        one = trainer(Replicas(few=0, held=0.25), steps=1)
        cut = one.job.labelled
        kept = Replicas(few=0, held=0.25)._cut(one.job)
        rows = torch.from_numpy(np.isin(cut.ids, kept.held.ids))
        cut.records[rows] = cut.records[rows] // 2 + change
        made.append(one.train().network.state_dict())
    assert tiny.same(*made)


def test_one_round_is_the_mean_of_replicas_trained_apart():
    method = Replicas(replicas=3, rounds=1, few=0, held=0.25)
    result = trainer(method, steps=12).train()
    by_hand = trainer(method, steps=12)
    cut, ends = method._cut(by_hand.job), []
    for k in range(3):
        ready = method.prepare(by_hand.job.network(), tiny.knowledge(), tiny.CLASSES)
        ends.append(by_hand.job.fit(method, ready, cut.take(k), share=1 / 3).state_dict())
    assert told(result.notes)[0] == "merged"
    for name, parameter in result.network.named_parameters():
        mean = np.mean([end[name].numpy() for end in ends], axis=0)
        np.testing.assert_allclose(parameter.detach(), mean, rtol=1e-5, atol=1e-6)


def test_without_learning_the_merge_is_the_source():
    result = trainer(Replicas(learning_rate=1e-12), steps=20).train()
    for name, parameter in result.network.backbone.named_parameters():
        source = tiny.knowledge().state[f"backbone.{name}"]
        torch.testing.assert_close(parameter.detach(), source, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rate", "fate"), [(1.0, "merged"), (300.0, "refused")])
def test_a_merge_that_is_worse_than_the_best_replica_is_refused(rate, fate):
    """The server oversteps the mean by far; the network handed back is as good as is told."""
    method = Replicas(replicas=3, rounds=1, few=0, held=0.25, merge="clipped", server_rate=rate)
    one = trainer(method, n=48, steps=36)
    result = one.train()
    found, merged, items, best = told(result.notes)
    cut = method._cut(one.job)
    assert found == fate and (merged < best) == (fate == "refused")
    assert items == len(cut.held)
    right = share_right(result.network, cut.held, one.recipe)
    assert right == pytest.approx(best if fate == "refused" else merged, abs=1e-4)


@pytest.mark.parametrize("merge", MERGES)
def test_every_scheme_learns(merge):
    one = trainer(Replicas(merge=merge, replicas=2, rounds=2), n=24, steps=40)
    assert share_right(one.train().network, one.job.labelled, one.recipe) > 0.6


@pytest.mark.parametrize("merge", MERGES)
def test_every_scheme_makes_the_same_bits_again(merge):
    made = [trainer(Replicas(merge=merge, replicas=3), n=12, steps=3).train() for _ in range(2)]
    assert tiny.same(*(result.network.state_dict() for result in made))
    assert made[0].notes == made[1].notes


def test_choosing_the_best_replica_is_judged_on_what_it_did_not_see():
    part = np.array([0, 0, 1, 1, 2, 2])
    right = np.array(
        [
            [1, 1, 1, 1, 1, 0],  # beside its part: 3 of 4
            [0, 1, 1, 1, 0, 0],  # 1 of 4
            [1, 0, 0, 1, 1, 1],  # 2 of 4
        ],
        dtype=bool,
    )
    best, worth = best_beside(right, part)
    # Part 0: 1 is right on 0 of part 2, 2 on 1/2 of part 1: replica 2, 1 of 2 right.
    # Part 1: 0 is right on 1/2 of part 2, 2 on 1/2 of part 0: the first, replica 0, 2 of 2.
    # Part 2: 0 is right on all of part 1, 1 on 1/2 of part 0: replica 0, 1 of 2.
    assert best == 0 and worth == pytest.approx(4 / 6)


def test_two_replicas_do_not_differ_from_their_merge_without_held_out_items():
    part, right = np.array([0, 0, 1]), np.array([[1, 1, 0], [1, 0, 1]], dtype=bool)
    assert best_beside(right, part)[1] == pytest.approx(1 / 3)


def test_statistics_are_those_of_the_items():
    seen = tiny.items(20)
    net, recipe = tiny.network(), tiny.recipe(seen)
    net.backbone.stem[1].momentum = 0.3
    measure(net, seen.records, recipe)
    with torch.no_grad():
        outputs = net.backbone.stem[0](to_input(seen.records, recipe)).double().numpy()
    norm = net.backbone.stem[1]
    np.testing.assert_allclose(norm.running_mean, outputs.mean(axis=(0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(norm.running_var, outputs.var(axis=(0, 2, 3), ddof=1), rtol=1e-4)
    assert norm.momentum == 0.3 and not any(module.training for module in net.modules())


def test_statistics_of_parts_are_averaged():
    seen = tiny.items(20)
    net, recipe = tiny.network(), tiny.recipe(seen)
    net.backbone.chunk = 10
    measure(net, seen.records, recipe)
    with torch.no_grad():
        outputs = net.backbone.stem[0](to_input(seen.records, recipe)).double().numpy()
    halves = [half.var(axis=(0, 2, 3), ddof=1) for half in (outputs[:10], outputs[10:])]
    norm = net.backbone.stem[1]
    np.testing.assert_allclose(norm.running_var, np.mean(halves, axis=0), rtol=1e-4)
    assert math.isclose(float(norm.num_batches_tracked), 2)
