"""Mask, loss, thresholds and alignment against NumPy, and that unlabelled items help."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from tests.transfer import tiny
from transfer.methods.building_blocks.semi_supervised import SPREAD
from transfer.methods.self_training.fixmatch import Alignment, Curriculum, FixMatch
from transfer.training.batches import pool_batch, training_batch

SAME = tiny.knowledge(tiny.CLASSES)


def prepared(method, items=20):
    fresh = tiny.network(seed=1).state_dict()
    fresh["head.weight"] *= 8  # so that some predictions are sure, and some are not
    ready = method.prepare(tiny.network(), replace(SAME, state=fresh), tiny.CLASSES)
    ready.helpers["curriculum"] = Curriculum(items, 3)
    return ready


def batch(method, labelled=6, unlabelled=16):
    recipe = tiny.recipe(tiny.items())
    rows = torch.arange(unlabelled).flip(0)
    pool = pool_batch(tiny.pool(), rows, recipe, tiny.strong(method, "stronger"), 0, 0)
    return replace(training_batch(tiny.items(), torch.arange(labelled), recipe, 0, 0), pool=pool)


def scores(ready, given):
    """Class scores of the labelled, weak and strong views, by one pass over all of them."""
    parts = [given.inputs, given.pool.weak, given.pool.strong]
    with torch.no_grad():
        found = ready.network(torch.cat(parts)).double().numpy()
    return np.split(found, np.cumsum([len(part) for part in parts])[:-1])


def by_hand(threshold, memory):
    """FlexMatch's thresholds, item by item."""
    counts, none = [0, 0, 0], 0
    for label in memory:
        if label < 0:
            none += 1
        else:
            counts[label] += 1
    shares = [count / max(*counts, none) for count in counts]
    return np.array([threshold * share / (2 - share) for share in shares])


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.8, 1.0])
def test_mask_and_loss_are_those_of_fixmatch(threshold):
    method = FixMatch(threshold=threshold, curriculum=False, weight=1.5, rise=0.5)
    ready, given = prepared(method), batch(method)
    with torch.no_grad():
        terms = {k: float(v) for k, v in method.loss(ready, given, 0.25).items()}
    labelled, weak, strong = scores(ready, given)
    chances, logs = softmax(weak, axis=1), log_softmax(strong, axis=1)
    total = 0.0
    for p, log in zip(chances, logs, strict=True):
        if max(p) >= threshold:
            total -= log[np.argmax(p)]
    expected = 1.5 * np.exp(-1.25) * total / 16
    assert terms["consistency"] == pytest.approx(expected, rel=1e-4, abs=1e-9)
    supervised = -(log_softmax(labelled, axis=1) * given.targets.numpy()).sum(1).mean()
    assert terms["cross_entropy"] == pytest.approx(supervised, rel=1e-4)


@pytest.mark.parametrize(
    "memory",
    [
        [-1] * 20,
        [0] * 20,
        [0] * 9 + [1] * 3 + [-1] * 8,
        [0] * 2 + [1] * 3 + [2] * 2 + [-1] * 13,
        [0, 1, 2] * 6 + [-1] * 2,
    ],
)
def test_thresholds_are_those_of_flexmatch(memory):
    curriculum = Curriculum(20, 3)
    curriculum.remember(torch.arange(20), torch.tensor(memory))
    np.testing.assert_allclose(curriculum.thresholds(0.8), by_hand(0.8, memory), rtol=1e-6)


def test_the_curriculum_lowers_the_threshold_of_the_batch_and_then_remembers_it():
    method = FixMatch(threshold=0.8, weight=1, rise=0)
    ready, given = prepared(method), batch(method)
    memory = np.array([1] * 10 + [2] * 3 + [-1] * 7)
    ready.helpers["curriculum"].remember(torch.arange(20), torch.from_numpy(memory))
    limits = by_hand(0.8, memory)
    with torch.no_grad():
        terms = method.loss(ready, given, 1.0)
    _, weak, strong = scores(ready, given)
    chances, logs = softmax(weak, axis=1), log_softmax(strong, axis=1)
    labels = chances.argmax(1)
    mask = np.array([p.max() >= limits[c] for p, c in zip(chances, labels, strict=True)])
    assert mask.sum() in range(1, 16)
    expected = -(logs[np.arange(16), labels] * mask).sum() / 16
    assert float(terms["consistency"]) == pytest.approx(expected, rel=1e-4)
    memory[given.pool.rows.numpy()] = np.where(chances.max(1) >= 0.8, labels, -1)
    assert ready.helpers["curriculum"].last.tolist() == memory.tolist()


def test_alignment_is_that_of_remixmatch():
    alignment = Alignment(3, keep=0.9)
    wanted = found = np.full(3, 1 / 3)
    rng = np.random.default_rng(0)
    for _ in range(4):
        chances, targets = rng.dirichlet([3, 1, 1], 8), rng.dirichlet([1, 1, 5], 5)
        out = alignment(torch.from_numpy(chances).float(), torch.from_numpy(targets).float())
        wanted, found = 0.9 * wanted + 0.1 * targets.mean(0), 0.9 * found + 0.1 * chances.mean(0)
        expected = chances * wanted / found
        expected /= expected.sum(1, keepdims=True)
        np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_alignment_without_labelled_items_strives_for_equal_shares():
    alignment = Alignment(3, keep=0.5)
    lopsided = torch.tensor([[0.8, 0.1, 0.1]]).repeat(4, 1)
    for _ in range(30):
        out = alignment(lopsided, torch.zeros(0, 3))
    torch.testing.assert_close(out, torch.full((4, 3), 1 / 3))


def test_alignment_changes_which_pseudo_labels_are_learned():
    plain = FixMatch(curriculum=False, threshold=0.0, weight=1, rise=0)
    aligned = plain.model_copy(update={"align": True})
    terms = []
    for method in (plain, aligned):
        ready, given = prepared(method), batch(method)
        if method.align:
            ready.helpers["alignment"].predicted_shares.copy_(torch.tensor([0.98, 0.01, 0.01]))
        with torch.no_grad():
            terms.append(float(method.loss(ready, given, 1.0)["consistency"]))
    assert terms[0] != pytest.approx(terms[1], rel=0.01)


def test_no_slope_comes_from_the_pseudo_labels_themselves():
    method = FixMatch(curriculum=False, threshold=1.0)
    ready, given = prepared(method), batch(method, labelled=0)
    terms = method.loss(ready, given, 1.0)
    assert set(terms) == {"consistency"}
    terms["consistency"].backward()
    assert all(not p.grad.any() for p in ready.network.parameters())


def on_strong_views(network, method, recipe):
    """Cross-entropy on strong views of labelled items that no one has trained on."""
    unseen = tiny.items(90, seed=12)
    views = pool_batch(
        tiny.pool_of(unseen), torch.arange(90), recipe, tiny.strong(method, "stronger"), 0, 0
    )
    with torch.no_grad():
        found = network.eval()(views.strong).double()
    return float(torch.nn.functional.cross_entropy(found, unseen.labels))


def test_a_network_trained_on_the_items_learns_their_strong_views_without_a_label():
    method, none = FixMatch(), tiny.items().take(np.zeros(24, bool))
    target = replace(tiny.target(none), pool=tiny.pool_of(tiny.items(60, seed=11)))
    recipe = tiny.recipe(tiny.items(), steps=40)
    made = tiny.trainer(method, none, recipe, target=target, sources=[SAME])
    result = made.train()
    source = tiny.network()
    source.load_state_dict(SAME.state)
    before, after = (on_strong_views(n, method, recipe) for n in (source, result.network))
    assert after < 0.8 * before
    assert result.notes[SPREAD] > 2
