"""Every validator in transfer/selection/validators/ follows the interface."""

import dataclasses
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from tests.transfer.selection.validators import toy
from transfer.selection.validator import CandidateOutputs, Validator, all_validators

VALIDATORS = all_validators()
every_validator = pytest.mark.parametrize("name", VALIDATORS)
TARGET, SOURCE = ("logits", "features"), ("source_logits", "source_labels", "source_features")


def draw(items=40, classes=5, scale=2.0, seed=0):
    return scale * np.random.default_rng(seed).normal(size=(items, classes))


@every_validator
def test_the_validator_has_a_test_file_of_its_name(name):
    assert Path(__file__).with_name(f"test_{name}.py").is_file()


@every_validator
def test_the_validator_is_named_like_its_file(name):
    assert isinstance(VALIDATORS[name], Validator)
    assert VALIDATORS[name].name == name


@every_validator
def test_the_docstring_names_the_paper_and_states_the_promise(name):
    docstring = inspect.getdoc(VALIDATORS[name].score)
    assert re.search(r"[A-Z]\w+.*\b(19|20)\d\d\b", docstring), "name the paper and its year"
    assert "score = " in docstring
    assert re.search(r"promises|scores? ", docstring)


@every_validator
def test_source_items_are_read_only_where_declared(name):
    for candidate in toy.make_candidates():
        rng = np.random.default_rng(1)
        other = dataclasses.replace(
            candidate,
            source_logits=-candidate.source_logits,
            source_features=rng.normal(size=candidate.source_features.shape),
            train_features=rng.normal(size=candidate.train_features.shape),
        )
        same = VALIDATORS[name].score(other) == VALIDATORS[name].score(candidate)
        assert same != VALIDATORS[name].reads_source


@every_validator
def test_no_source_is_needed_where_none_is_declared(name):
    if not VALIDATORS[name].reads_source:
        candidate = toy.make_candidates()[toy.GOOD]
        score = VALIDATORS[name].score
        assert score(toy.without_source(candidate)) == score(candidate)


@every_validator
def test_the_order_of_items_does_not_matter(name):
    candidate = toy.make_candidates(("good", "random"), seed=3)[1]
    rng = np.random.default_rng(4)
    target, source = (
        rng.permutation(len(candidate.logits)),
        rng.permutation(len(candidate.source_labels)),
    )
    other = dataclasses.replace(
        candidate,
        peers=candidate.peers[::-1, target],
        train_features=rng.permutation(candidate.train_features),
        **{field: getattr(candidate, field)[target] for field in TARGET},
        **{field: getattr(candidate, field)[source] for field in SOURCE},
    )
    score = VALIDATORS[name].score
    assert score(other) == pytest.approx(score(candidate), rel=1e-5)


@every_validator
def test_the_order_of_classes_does_not_matter(name):
    candidate = toy.make_candidates(("good", "random"), seed=5)[1]
    order = np.array([2, 0, 3, 1])
    other = dataclasses.replace(
        candidate,
        logits=candidate.logits[:, order],
        source_logits=candidate.source_logits[:, order],
        source_labels=np.argsort(order)[candidate.source_labels],
        peers=candidate.peers[:, :, order],
    )
    score = VALIDATORS[name].score
    assert score(other) == pytest.approx(score(candidate), rel=1e-9)


@every_validator
def test_a_constant_added_to_the_scores_of_an_item_does_not_matter(name):
    candidate = toy.make_candidates()[toy.RANDOM]
    shift = np.random.default_rng(0).normal(size=(len(candidate.logits), 1)) * 100
    other = dataclasses.replace(candidate, logits=candidate.logits + shift)
    score = VALIDATORS[name].score
    assert score(other) == pytest.approx(score(candidate), rel=1e-9)


@every_validator
def test_equal_inputs_give_the_same_bits_and_are_not_changed(name):
    first, second = toy.make_candidates()[toy.GOOD], toy.make_candidates()[toy.GOOD]
    score = VALIDATORS[name].score
    assert score(first) == score(first) == score(second)
    for field in dataclasses.fields(CandidateOutputs):
        assert np.array_equal(getattr(first, field.name), getattr(second, field.name))


@every_validator
def test_single_precision_gives_the_same_score(name):
    candidate = toy.make_candidates()[toy.RANDOM]
    single = {
        field.name: getattr(candidate, field.name).astype(np.float32)
        for field in dataclasses.fields(CandidateOutputs)
        if field.name != "source_labels"
    }
    score = VALIDATORS[name].score
    assert score(dataclasses.replace(candidate, **single)) == pytest.approx(
        score(candidate), rel=1e-4
    )


HARD = {
    "saturated": toy.single_candidate(1e6 * np.eye(5)[np.arange(40) % 5]),
    "saturated in one class": toy.single_candidate(1e6 * np.eye(5)[np.zeros(40, int)]),
    "logarithms of nothing": toy.single_candidate(np.log(np.eye(5)[np.arange(40) % 5] + 1e-300)),
    "all equal": toy.single_candidate(np.zeros((40, 5))),
    "constant features": toy.single_candidate(
        draw(),
        features=np.full((40, 3), 7.0),
        source_features=np.full((60, 3), 7.0),
        train_features=np.full((70, 3), 7.0),
    ),
    "features constant in each domain": toy.single_candidate(
        draw(),
        features=np.full((40, 3), 7.0),
        source_features=np.full((60, 3), -7.0),
        train_features=np.full((70, 3), -7.0),
    ),
    "features a million apart": toy.single_candidate(draw(), features=draw(40, 3) + 1e6),
    "huge features": toy.single_candidate(draw(), features=1e30 * draw(40, 3)),
    "source items far away": toy.single_candidate(
        draw(),
        features=draw(40, 3) + 1,
        source_features=1e9 * draw(60, 3),
        source_logits=draw(60, seed=1),
    ),
    "dead features": toy.single_candidate(
        draw(),
        features=np.zeros((40, 3)),
        source_features=np.zeros((60, 3)),
        train_features=np.zeros((70, 3)),
    ),
    "one item": toy.single_candidate(draw(1)),
    "two items": toy.single_candidate(draw(2)),
    "one class": toy.single_candidate(draw(40, 1)),
    "one source item": toy.single_candidate(
        draw(),
        source_logits=draw(1),
        source_labels=np.array([3]),
        source_features=draw(1, 3),
        train_features=draw(1, 3),
    ),
    "one class of source items": toy.single_candidate(draw(), source_labels=np.zeros(60, int)),
}


@every_validator
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("inputs", HARD)
def test_its_score_is_a_finite_number(name, inputs):
    score = VALIDATORS[name].score(HARD[inputs])
    assert type(score) is float
    assert np.isfinite(score)
