"""The loss and the alignment against NumPy, what the teachers say, phases, and that it helps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from tests.transfer import tiny
from transfer.methods.building_blocks.semi_supervised import SPREAD, PseudoLabels
from transfer.methods.self_training.noisy_student import NoisyStudent, aligned
from transfer.modalities.image.augment import AugmentPolicy
from transfer.training.batches import logits, pool_batch, training_batch

SAME = tiny.knowledge(tiny.CLASSES)


@pytest.mark.parametrize("chosen", [0, 7])
def test_its_terms_are_those_of_the_docstring(chosen):
    method = NoisyStudent(weight=0.6)
    ready = method.prepare(tiny.network(), SAME, tiny.CLASSES)
    targets = np.random.default_rng(1).dirichlet([1, 1, 1], 20).astype(np.float32)
    ready.helpers["pseudo"] = PseudoLabels(torch.from_numpy(targets), torch.arange(20) < chosen)
    recipe = tiny.recipe(tiny.items())
    pool = pool_batch(tiny.pool(), torch.arange(12).flip(0), recipe, tiny.strong(method), 0, 0)
    batch = replace(training_batch(tiny.items(), torch.arange(6), recipe, 0, 0), pool=pool)
    with torch.no_grad():
        terms = {k: float(v) for k, v in method.loss(ready, batch, 0.0).items()}
        found = ready.network(torch.cat([batch.inputs, pool.strong])).double().numpy()
    logs = log_softmax(found, axis=1)
    each = [-(targets[r] @ logs[6 + i]) for i, r in enumerate(pool.rows) if r < chosen]
    assert terms == pytest.approx(
        {
            "cross_entropy": -(logs[:6] * batch.targets.numpy()).sum(1).mean(),
            "teachers": 0.6 * np.mean(each) if each else 0.0,
        },
        rel=1e-4,
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(20, 60))
def test_aligned_probabilities_have_the_shares_asked_for_and_keep_their_odds(seed, classes, items):
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.ones(classes), items).clip(1e-3)
    chances /= chances.sum(1, keepdims=True)
    shares = rng.dirichlet(5 * np.ones(classes)).clip(0.05)
    shares /= shares.sum()
    found = aligned(torch.from_numpy(chances), torch.from_numpy(shares), iterations=300).numpy()
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_allclose(found.mean(0), shares, atol=1e-3)
    # rows are scaled by one number and columns by another: the interaction stays
    logs = np.log(found) - np.log(chances)
    apart = logs - logs.mean(0) - logs.mean(1, keepdims=True) + logs.mean()
    np.testing.assert_allclose(apart, 0, atol=1e-6)


def test_a_class_that_no_one_predicts_and_no_one_has_stays_empty():
    chances = torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.8, 0.0]])
    found = aligned(chances, torch.tensor([0.5, 0.5, 0.0]))
    assert torch.isfinite(found).all() and (found[:, 2] == 0).all()


class Watched(NoisyStudent):
    """Notes every network that labels the pool, and what students are told."""

    def _predicted(self, network, job):
        found = super()._predicted(network, job)
        NETWORKS.append((network, logits(network, job.pool.records, job.recipe), found))
        return found

    def _pseudo_labels(self, targets, job):
        made = super()._pseudo_labels(targets, job)
        LESSONS.append((targets, made, job.pool))
        return made


NETWORKS, LESSONS = [], []


def run(method, kept=slice(None), pool=None, steps=20, policy=tiny.STILL):
    NETWORKS.clear()
    LESSONS.clear()
    seen = tiny.items()
    kept = seen.take(np.isin(np.arange(24), np.arange(24)[kept]))
    target = tiny.target(kept) if pool is None else replace(tiny.target(kept), pool=pool)
    recipe = replace(tiny.recipe(seen, steps=steps), policy=policy)
    made = tiny.trainer(method, kept, recipe, target=target, sources=[SAME])
    return made, made.train()


def test_the_first_student_learns_the_mean_of_teachers_that_differ():
    run(Watched(teachers=3, views=0))
    teachers = NETWORKS[:3]
    for _, scores, said in teachers:
        np.testing.assert_allclose(said, softmax(scores.double().numpy(), axis=1), atol=1e-5)
    assert not torch.equal(teachers[0][1], teachers[1][1])
    mean = np.mean([softmax(scores.double().numpy(), axis=1) for _, scores, _ in teachers], axis=0)
    np.testing.assert_allclose(LESSONS[0][1].targets, mean, atol=1e-5)


def test_each_later_student_learns_from_the_one_before_it_alone():
    run(Watched(teachers=2, rounds=3))
    assert len(NETWORKS) == 4 and len(LESSONS) == 3
    for (_, _, said), (told, _, _) in zip(NETWORKS[2:], LESSONS[1:], strict=True):
        assert torch.equal(said, told)


def test_views_are_part_of_what_is_predicted():
    run(Watched(teachers=1, views=3), policy=AugmentPolicy(translate=0.1))
    _, scores, said = NETWORKS[0]
    plain = softmax(scores.double().numpy(), axis=1)
    assert not np.allclose(said, plain, atol=1e-4)
    np.testing.assert_allclose(said.sum(1), 1, atol=1e-5)
    assert np.abs(said.numpy() - plain).mean() < 0.3


def test_labelled_items_are_learned_by_their_labels_alone():
    run(Watched(), kept=slice(9), pool=tiny.pool_of(tiny.items(24)))
    assert LESSONS[0][1].chosen.tolist() == [False] * 9 + [True] * 15


def test_alignment_is_to_the_shares_of_the_labelled_items():
    labels = tiny.items().labels.numpy()
    kept = np.concatenate([np.flatnonzero(labels == k)[:n] for k, n in enumerate((6, 2, 1))])
    run(Watched(align=True), kept=kept)
    np.testing.assert_allclose(LESSONS[0][1].targets.mean(0), [6 / 9, 2 / 9, 1 / 9], atol=0.02)
    run(Watched(align=False), kept=kept)
    assert np.abs(LESSONS[0][1].targets.mean(0).numpy() - [6 / 9, 2 / 9, 1 / 9]).max() > 0.05


def test_teachers_and_students_share_one_budget():
    made, result = run(NoisyStudent(teachers=2, rounds=2))
    assert made.steps == 20 and made.phases == 4
    assert 1 <= result.notes[SPREAD] <= 3
