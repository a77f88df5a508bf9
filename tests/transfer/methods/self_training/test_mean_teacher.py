"""The teacher against NumPy's moving average, the loss against NumPy, and what is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from tests.transfer import tiny
from transfer.methods.building_blocks.semi_supervised import SPREAD
from transfer.methods.self_training.mean_teacher import MeanTeacher, Teacher
from transfer.training.batches import pool_batch, training_batch
from transfer.training.loop import Beside, fit

SAME = tiny.knowledge(tiny.CLASSES)


def shaken(network, seed):
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise))


@pytest.mark.parametrize("keep", [0.0, 0.6, 0.9])
def test_the_teacher_is_the_moving_average_of_its_students_past(keep):
    student = tiny.network()
    teacher = Teacher(student)
    expected = {n: p.detach().double().numpy().copy() for n, p in student.named_parameters()}
    for step in range(1, 6):
        shaken(student, step)
        teacher.follow(student, keep)
        share = min(keep, step / (step + 1))
        for name, p in student.named_parameters():
            now = p.detach().double().numpy()
            expected[name] = share * expected[name] + (1 - share) * now
    for name, p in teacher.network.named_parameters():
        np.testing.assert_allclose(p.numpy(), expected[name], rtol=1e-4, atol=1e-5)
    assert int(teacher.steps) == 5


def test_its_terms_are_those_of_the_paper():
    method = MeanTeacher(weight=2.0, rise=0.5)
    ready = method.prepare(tiny.network(), SAME, tiny.CLASSES)
    shaken(ready.helpers["teacher"].network, 1)
    seen = tiny.items()
    recipe = tiny.recipe(seen)
    pool = pool_batch(tiny.pool(), torch.arange(10), recipe, tiny.strong(method), 0, 0)
    batch = replace(training_batch(seen, torch.arange(6), recipe, 0, 0), pool=pool)
    with torch.no_grad():
        terms = {k: float(v) for k, v in method.loss(ready, batch, 0.25).items()}
        student = ready.network(torch.cat([batch.inputs, pool.strong])).double().numpy()
        teacher = ready.helpers["teacher"].network(pool.weak).double().numpy()
    apart = softmax(student[6:], axis=1) - softmax(teacher, axis=1)
    expected = 2.0 * np.exp(-1.25) * np.mean([row @ row for row in apart])
    assert terms["consistency"] == pytest.approx(expected, rel=1e-4)
    expected = -np.mean(np.log((softmax(student[:6], axis=1) * batch.targets.numpy()).sum(1)))
    assert terms["cross_entropy"] == pytest.approx(expected, rel=1e-4)


def test_no_slope_reaches_the_teacher():
    method = MeanTeacher()
    ready = method.prepare(tiny.network(), SAME, tiny.CLASSES)
    recipe = tiny.recipe(tiny.items())
    pool = pool_batch(tiny.pool(), torch.arange(10), recipe, tiny.strong(method), 0, 0)
    batch = replace(training_batch(tiny.items(), torch.arange(6), recipe, 0, 0), pool=pool)
    torch.stack(list(method.loss(ready, batch, 1.0).values())).sum().backward()
    assert all(p.grad is None for p in ready.helpers.parameters())
    assert all(p.grad is not None for p in ready.network.parameters())


def test_the_teacher_is_what_is_kept():
    seen = tiny.items()
    method = MeanTeacher(keep=0.5)
    ready = method.prepare(tiny.network(), SAME, tiny.CLASSES)
    kept, _ = fit(
        method, ready, seen, tiny.recipe(seen, steps=5), seed=0, beside=Beside(pool=tiny.pool())
    )
    teacher = ready.helpers["teacher"].network
    assert tiny.same(kept.state_dict(), teacher.state_dict())
    assert not torch.equal(kept.head.weight, SAME.state["head.weight"])


def test_a_student_that_agrees_with_its_teacher_has_nothing_to_learn():
    method = MeanTeacher(strong=tiny.STILL.model_dump())
    ready = method.prepare(tiny.network(), SAME, tiny.CLASSES)
    recipe = tiny.recipe(tiny.items())
    pool = pool_batch(tiny.pool(), torch.arange(10), recipe, tiny.strong(method), 0, 0)
    batch = replace(training_batch(tiny.items(), torch.arange(0), recipe, 0, 0), pool=pool)
    terms = method.loss(ready, batch, 1.0)
    assert set(terms) == {"consistency"}
    assert float(terms["consistency"].detach()) == pytest.approx(0, abs=1e-9)


def test_it_notes_how_many_classes_it_predicts():
    seen = tiny.items()
    made = tiny.trainer(MeanTeacher(), seen, tiny.recipe(seen, steps=2)).train()
    assert 1 <= made.notes[SPREAD] <= 3
