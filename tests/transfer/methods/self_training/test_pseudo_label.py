"""The choice of items against NumPy, the loss against NumPy, phases, and that the pool helps."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from tests.transfer import tiny
from transfer.methods.building_blocks.semi_supervised import SPREAD, PseudoLabels
from transfer.methods.self_training.pseudo_label import PseudoLabel, most_confident
from transfer.training.batches import logits, pool_batch, training_batch

SAME = tiny.knowledge(tiny.CLASSES)


def by_hand(chances, share, least):
    """Indices of the chosen items, class by class."""
    labels, sure = chances.argmax(1), chances.max(1)
    chosen = set()
    for label in range(chances.shape[1]):
        own = [i for i in range(len(chances)) if labels[i] == label]
        best = sorted(own, key=lambda i: (-sure[i], i))[: math.ceil(share * len(own))]
        chosen |= {i for i in best if sure[i] >= least}
    return chosen


@pytest.mark.parametrize("share", [0.01, 0.3, 0.75, 1.0])
@pytest.mark.parametrize("least", [0.0, 0.6, 1.0])
def test_the_most_confident_share_of_each_class_is_chosen(share, least):
    chances = np.random.default_rng(0).dirichlet([0.8, 0.4, 0.4, 0.1], 50).astype(np.float32)
    found = most_confident(torch.from_numpy(chances), share, least)
    assert set(found.nonzero().flatten().tolist()) == by_hand(chances, share, least)


def test_a_rare_class_is_chosen_however_sure_the_common_one_is():
    chances = torch.tensor([[0.99, 0.01]] * 9 + [[0.4, 0.6]])
    assert most_confident(chances, 0.3, 0.0).tolist() == [True] * 3 + [False] * 6 + [True]


def test_of_nothing_nothing_is_chosen():
    assert most_confident(torch.zeros(0, 3), 0.5, 0.0).tolist() == []


@pytest.mark.parametrize("labelled", [0, 6])
@pytest.mark.parametrize("chosen", [0, 7])
def test_its_terms_are_those_of_the_docstring(labelled, chosen):
    method = PseudoLabel(weight=0.6)
    ready = method.prepare(tiny.network(), SAME, tiny.CLASSES)
    targets = np.random.default_rng(1).dirichlet([1, 1, 1], 20).astype(np.float32)
    ready.helpers["pseudo"] = PseudoLabels(torch.from_numpy(targets), torch.arange(20) < chosen)
    recipe = tiny.recipe(tiny.items())
    pool = pool_batch(tiny.pool(), torch.arange(12).flip(0), recipe, tiny.strong(method), 0, 0)
    batch = replace(training_batch(tiny.items(), torch.arange(labelled), recipe, 0, 0), pool=pool)
    with torch.no_grad():
        terms = {k: float(v) for k, v in method.loss(ready, batch, 0.0).items()}
        found = ready.network(torch.cat([batch.inputs, pool.strong])).double().numpy()
    logs = log_softmax(found, axis=1)
    each = [-(targets[r] @ logs[labelled + i]) for i, r in enumerate(pool.rows) if r < chosen]
    expected = {"pseudo_labels": 0.6 * np.mean(each) if each else 0.0}
    if labelled:
        expected["cross_entropy"] = -(logs[:6] * batch.targets.numpy()).sum(1).mean()
    assert terms == pytest.approx(expected, rel=1e-4)


class Seen(PseudoLabel):
    """Notes what the network says of the pool, and what is made of it, in each round."""

    def _label(self, network, job, number):
        made = super()._label(network, job, number)
        scores = logits(network, job.pool.records, job.recipe).double().numpy()
        NOTES.append((softmax(scores, axis=1), made, tiny.state(network)))
        return made


NOTES = []


def run(method, labelled=24, pool=None, steps=10, sources=None):
    NOTES.clear()
    seen = tiny.items()
    kept = seen.take(np.arange(24) < labelled)
    target = tiny.target(kept) if pool is None else replace(tiny.target(kept), pool=pool)
    recipe = tiny.recipe(seen, steps=steps)
    made = tiny.trainer(method, kept, recipe, target=target, sources=sources)
    return made, made.train()


@pytest.mark.parametrize("soft", [False, True])
def test_each_round_labels_the_pool_anew_and_keeps_a_growing_share(soft):
    method = Seen(rounds=3, first_share=0.2, last_share=0.9, threshold=0.0, soft=soft)
    _, result = run(method, sources=[SAME])
    for (chances, made, _), share in zip(NOTES, (0.2, 0.55, 0.9), strict=True):
        expected = chances if soft else np.eye(3)[chances.argmax(1)]
        np.testing.assert_allclose(made.targets, expected, atol=1e-5)
        assert set(made.chosen.nonzero().flatten().tolist()) == by_hand(chances, share, 0.0)
    assert result.notes["pseudo-labelled items"] == int(NOTES[-1][1].chosen.sum())
    assert 1 <= result.notes[SPREAD] <= 3


def test_labelled_items_get_no_pseudo_label():
    pool = tiny.pool_of(tiny.items(24))
    run(Seen(rounds=1, first_share=1.0, threshold=0.0), labelled=9, pool=pool)
    assert NOTES[0][1].chosen.tolist() == [False] * 9 + [True] * 15


def test_without_labels_the_sources_own_network_labels_the_pool_first():
    made, _ = run(Seen(rounds=2), labelled=0, sources=[SAME])
    assert tiny.same(NOTES[0][2], dict(SAME.state))
    assert made.steps == 10


def test_the_phases_share_one_budget():
    made, _ = run(PseudoLabel(labelled_steps=0.4, rounds=2))
    assert made.steps == 10 and made.phases == 3
    made, _ = run(PseudoLabel(rounds=2), labelled=0, sources=[SAME])
    assert made.steps == 10 and made.phases == 2


def test_pseudo_labels_are_kept_in_checkpoints():
    pseudo = PseudoLabels(torch.eye(3), torch.tensor([True, False, True]))
    assert set(nn.ModuleDict({"pseudo": pseudo}).state_dict()) == {
        "pseudo.targets",
        "pseudo.chosen",
    }


def test_one_label_for_each_class_and_a_pool_of_easy_items_suffice():
    method = PseudoLabel(strong=tiny.STILL.model_dump())
    pool = tiny.pool_of(tiny.items(90, seed=11))
    made, result = run(method, labelled=3, pool=pool, steps=60)
    unseen = tiny.items(90, seed=12)
    found = logits(result.network, unseen.records, made.recipe).argmax(1)
    assert float((found == unseen.labels).double().mean()) > 0.9
