"""Whatever lies in transfer/selection/validators/ keeps the promises of the seam."""

import dataclasses
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from tests.transfer.selection.validators import toy
from transfer.selection.validator import Seen, Validator, known

VALIDATORS = known()
every_validator = pytest.mark.parametrize("name", VALIDATORS)
TARGET, SOURCE = ("logits", "features"), ("source_logits", "source_labels", "source_features")


def draw(items=40, classes=5, scale=2.0, seed=0):
    return scale * np.random.default_rng(seed).normal(size=(items, classes))


@every_validator
def test_it_has_a_test_file_of_its_own_name(name):
    assert Path(__file__).with_name(f"test_{name}.py").is_file()


@every_validator
def test_it_is_named_like_its_file(name):
    assert isinstance(VALIDATORS[name], Validator)
    assert VALIDATORS[name].name == name


@every_validator
def test_its_docstring_names_its_paper_and_says_what_it_promises(name):
    told = inspect.getdoc(VALIDATORS[name].score)
    assert re.search(r"[A-Z]\w+.*\b(19|20)\d\d\b", told), "name the paper and its year"
    assert "score = " in told
    assert re.search(r"promises|scores? ", told)


@every_validator
def test_it_reads_source_items_only_where_it_says_so(name):
    for seen in toy.pool():
        rng = np.random.default_rng(1)
        other = dataclasses.replace(
            seen,
            source_logits=-seen.source_logits,
            source_features=rng.normal(size=seen.source_features.shape),
            train_features=rng.normal(size=seen.train_features.shape),
        )
        same = VALIDATORS[name].score(other) == VALIDATORS[name].score(seen)
        assert same != VALIDATORS[name].reads_source


@every_validator
def test_it_needs_no_source_where_it_says_so(name):
    if not VALIDATORS[name].reads_source:
        seen = toy.pool()[toy.GOOD]
        score = VALIDATORS[name].score
        assert score(toy.without_source(seen)) == score(seen)


@every_validator
def test_the_order_of_items_does_not_matter(name):
    seen = toy.pool(("good", "random"), seed=3)[1]
    rng = np.random.default_rng(4)
    target, source = rng.permutation(len(seen.logits)), rng.permutation(len(seen.source_labels))
    other = dataclasses.replace(
        seen,
        peers=seen.peers[::-1, target],
        train_features=rng.permutation(seen.train_features),
        **{field: getattr(seen, field)[target] for field in TARGET},
        **{field: getattr(seen, field)[source] for field in SOURCE},
    )
    score = VALIDATORS[name].score
    assert score(other) == pytest.approx(score(seen), rel=1e-5)


@every_validator
def test_the_order_of_classes_does_not_matter(name):
    seen = toy.pool(("good", "random"), seed=5)[1]
    order = np.array([2, 0, 3, 1])
    other = dataclasses.replace(
        seen,
        logits=seen.logits[:, order],
        source_logits=seen.source_logits[:, order],
        source_labels=np.argsort(order)[seen.source_labels],
        peers=seen.peers[:, :, order],
    )
    score = VALIDATORS[name].score
    assert score(other) == pytest.approx(score(seen), rel=1e-9)


@every_validator
def test_a_constant_added_to_the_scores_of_an_item_does_not_matter(name):
    seen = toy.pool()[toy.RANDOM]
    shift = np.random.default_rng(0).normal(size=(len(seen.logits), 1)) * 100
    other = dataclasses.replace(seen, logits=seen.logits + shift)
    score = VALIDATORS[name].score
    assert score(other) == pytest.approx(score(seen), rel=1e-9)


@every_validator
def test_the_same_twice_gives_the_same_bits_and_leaves_its_input_alone(name):
    one, two = toy.pool()[toy.GOOD], toy.pool()[toy.GOOD]
    score = VALIDATORS[name].score
    assert score(one) == score(one) == score(two)
    for field in dataclasses.fields(Seen):
        assert np.array_equal(getattr(one, field.name), getattr(two, field.name))


@every_validator
def test_single_precision_gives_the_same_score(name):
    seen = toy.pool()[toy.RANDOM]
    single = {
        field.name: getattr(seen, field.name).astype(np.float32)
        for field in dataclasses.fields(Seen)
        if field.name != "source_labels"
    }
    score = VALIDATORS[name].score
    assert score(dataclasses.replace(seen, **single)) == pytest.approx(score(seen), rel=1e-4)


HARD = {
    "saturated": toy.alone(1e6 * np.eye(5)[np.arange(40) % 5]),
    "saturated in one class": toy.alone(1e6 * np.eye(5)[np.zeros(40, int)]),
    "logarithms of nothing": toy.alone(np.log(np.eye(5)[np.arange(40) % 5] + 1e-300)),
    "all equal": toy.alone(np.zeros((40, 5))),
    "constant features": toy.alone(
        draw(),
        features=np.full((40, 3), 7.0),
        source_features=np.full((60, 3), 7.0),
        train_features=np.full((70, 3), 7.0),
    ),
    "features constant in each domain": toy.alone(
        draw(),
        features=np.full((40, 3), 7.0),
        source_features=np.full((60, 3), -7.0),
        train_features=np.full((70, 3), -7.0),
    ),
    "features a million apart": toy.alone(draw(), features=draw(40, 3) + 1e6),
    "huge features": toy.alone(draw(), features=1e30 * draw(40, 3)),
    "source items far away": toy.alone(
        draw(),
        features=draw(40, 3) + 1,
        source_features=1e9 * draw(60, 3),
        source_logits=draw(60, seed=1),
    ),
    "dead features": toy.alone(
        draw(),
        features=np.zeros((40, 3)),
        source_features=np.zeros((60, 3)),
        train_features=np.zeros((70, 3)),
    ),
    "one item": toy.alone(draw(1)),
    "two items": toy.alone(draw(2)),
    "one class": toy.alone(draw(40, 1)),
    "one source item": toy.alone(
        draw(),
        source_logits=draw(1),
        source_labels=np.array([3]),
        source_features=draw(1, 3),
        train_features=draw(1, 3),
    ),
    "one class of source items": toy.alone(draw(), source_labels=np.zeros(60, int)),
}


@every_validator
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", HARD)
def test_its_score_is_a_finite_number(name, case):
    found = VALIDATORS[name].score(HARD[case])
    assert type(found) is float
    assert np.isfinite(found)
