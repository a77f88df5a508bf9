"""A student learns labels, and what its teachers say of pictures without labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from torch import nn

from tests.transfer import tiny
from transfer.methods.self_training.distill import METHOD as DISTILL
from transfer.methods.self_training.distill import Soft, classifier, divergence, mean_log
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.normalisation import Normalisation
from transfer.training.batches import logits
from transfer.training.method import Batch, PoolBatch

FIXED = Normalisation(mean=(0.2,), std=(0.5,))
PART = {**tiny.BODY.model_dump(), "normal": tiny.NORMAL.model_dump(mode="json")}
FUSED = tiny.knowledge(
    seed=300, backbone_spec=BackboneSpec(name="fused", options={"parts": [PART]})
)
LARGE = replace(FUSED, source="large", normal=FIXED, fixed_normal=True)


def trainer(sources, steps=10, **settings):
    seen = tiny.items()
    method = DISTILL(**{"views": 2, **settings})
    return tiny.trainer(method, seen, tiny.recipe(seen, steps=steps), sources=sources)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_teachers_term_is_the_scaled_divergence_of_softened_answers(temperature):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(5, 4)) * 3, softmax(rng.normal(size=(5, 4)) * 2, axis=1)
    wanted = teacher ** (1 / temperature)
    wanted /= wanted.sum(1, keepdims=True)
    log_found = student / temperature - logsumexp(student / temperature, axis=1, keepdims=True)
    expected = temperature**2 * (wanted * (np.log(wanted) - log_found)).sum(1).mean()
    found = divergence(torch.tensor(student), torch.tensor(np.log(teacher)), temperature)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_a_student_that_agrees_with_its_teachers_has_nothing_to_learn_from_them():
    soft = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    assert float(divergence(soft + 2.0, soft, 2.0)) == pytest.approx(0, abs=1e-6)


def test_teachers_are_averaged_by_their_probabilities():
    one, two = torch.tensor([[0.8, 0.2]]), torch.tensor([[0.0, 1.0]])
    np.testing.assert_allclose(mean_log([one, two]).exp().numpy(), [[0.4, 0.6]], rtol=1e-6)
    assert mean_log([torch.tensor([[0.0, 1.0]])]).isfinite().all()


def test_a_step_sees_the_teachers_answers_to_its_own_rows_of_the_pool():
    method = DISTILL(temperature=1.5, weight=0.7)
    ready = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    ready.network.eval()
    soft = torch.randn(9, 3, generator=torch.Generator().manual_seed(1)).log_softmax(1)
    ready.helpers["teachers"] = Soft(soft)
    labelled, pool = torch.randn(4, 1, 12, 12), torch.randn(2, 1, 12, 12)
    targets, rows = torch.eye(3)[[0, 1, 2, 0]], torch.tensor([7, 3])
    with torch.no_grad():
        terms = method.loss(ready, Batch(labelled, targets, None, PoolBatch(pool, pool, rows)), 0.0)
        scores = [ready.network(x).double().numpy() for x in (labelled, pool)]
    log_p = scores[0] - logsumexp(scores[0], axis=1, keepdims=True)
    assert float(terms["cross_entropy"]) == pytest.approx(
        -(targets.numpy() * log_p).sum(1).mean(), rel=1e-4
    )
    wanted = softmax(soft[[7, 3]].double().numpy() / 1.5, axis=1)
    log_q = scores[1] / 1.5 - logsumexp(scores[1] / 1.5, axis=1, keepdims=True)
    expected = 0.7 * 1.5**2 * (wanted * (np.log(wanted) - log_q)).sum(1).mean()
    assert float(terms["distillation"]) == pytest.approx(expected, rel=1e-4)


def test_a_teachers_classifier_minimises_its_stated_objective():
    job = trainer([tiny.knowledge()]).job
    rng = np.random.default_rng(0)
    labels = job.labelled.labels.numpy()
    raw = rng.normal(size=(2, 24, 6)) + 2 * np.eye(3, 6)[labels] + 5
    found = classifier(job, torch.tensor(raw), penalty=0.01)
    flat, told = raw.reshape(48, 6), np.tile(labels, 2)
    mean, scale = flat.mean(0), flat.std(0) * np.sqrt(6)
    weight = found.weight * scale  # W on features divided by sqrt(D)
    bias = found.bias + found.weight @ mean
    z = (flat - mean) / scale
    wrong = softmax(z @ weight.T + bias, axis=1) - np.eye(3)[told]
    np.testing.assert_allclose(wrong.T @ z / 48 + 0.01 * weight, 0, atol=2e-3)
    np.testing.assert_allclose(wrong.mean(0), 0, atol=2e-3)


def test_the_student_starts_from_the_first_source_of_a_kind_that_is_trained_here():
    second = tiny.knowledge(seed=200)
    result = trainer([LARGE, second], steps=1).train()
    assert result.network.backbone_spec == tiny.BODY
    assert result.notes["student starts from"] == second.source
    assert result.notes["teachers"] == "large, trees"
    assert {t.action for t in result.transfers[:-2]} == {"copied"}
    start = second.state["backbone.stem.0.weight"]
    moved = (result.network.get_parameter("backbone.stem.0.weight") - start).abs().max()
    assert float(moved) < 0.01


def test_a_large_source_alone_teaches_a_small_student_with_random_weights():
    result = trainer([LARGE], steps=1).train()
    assert result.network.backbone_spec == tiny.BODY
    assert result.notes["student starts from"] == "random weights"
    assert {t.action for t in result.transfers} == {"reinitialised"}


def test_each_teacher_gets_items_in_its_own_standardisation_and_the_student_in_the_targets():
    made = trainer([LARGE, tiny.knowledge()])
    result = made.train()
    assert made.input_recipe(result).normal == tiny.recipe(tiny.items()).normal
    job = made.job
    network = job.network(LARGE.backbone_spec)
    one = job.embed(network, normal=FIXED)
    other = job.embed(network, normal=Normalisation(mean=(0.4,), std=(0.1,)))
    assert not torch.allclose(one, other)
    assert torch.equal(job.embed(network), job.embed(network, normal=network.backbone.normal))


def test_a_student_without_useful_labels_takes_its_teachers_word():
    """One label a class and a heavy teacher: students agree with it more than without."""
    agreement = []
    for weight in (0.0, 5.0):
        made = trainer([tiny.knowledge(seed=5)], steps=40, weight=weight)
        result = made.train()
        scores = logits(result.network, made.job.pool.records, made.input_recipe(result))
        soft = made.method._teach(made.job)
        agreement.append(float(divergence(scores, soft, 1.0)))
    assert agreement[1] < agreement[0]


def test_the_predictions_of_teachers_are_kept_in_checkpoints():
    helpers = nn.ModuleDict({"teachers": Soft(torch.zeros(4, 3))})
    assert list(helpers.state_dict()) == ["teachers.scores"]
    assert not list(helpers.parameters())
