"""The inputs of validators, their choice among candidates, and the check for collapse."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from tests.transfer.selection.validators import toy
from transfer.core.errors import CrosstrainError, SettingsError
from transfer.selection import validator
from transfer.selection.validator import (
    CandidateOutputs,
    all_validators,
    choose,
    explain_collapse,
    find_collapsed,
    rank,
    score_all,
)

ALL = ("agreement", "corr_c", "dev", "entropy", "infomax", "snd", "source_accuracy")


def one_hot(counts):
    """Confident logits of (sum of counts) items, so many predicted as each class."""
    return 9 * np.eye(len(counts))[np.repeat(np.arange(len(counts)), counts)]


def source_arrays(counts):
    """Arrays of a source with so many items of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    rng = np.random.default_rng(0)
    return {
        "source_labels": labels,
        "source_logits": rng.normal(size=(len(labels), len(counts))),
        "source_features": rng.normal(size=(len(labels), 3)),
    }


def test_the_validators_are_the_files_of_the_folder():
    assert tuple(all_validators()) == ALL


def test_no_target_label_is_among_the_inputs():
    whole_numbers = [f.name for f in dataclasses.fields(CandidateOutputs) if "int64" in str(f.type)]
    assert whole_numbers == ["source_labels"]


def test_log_probabilities_are_those_of_scipy_and_finite_where_probabilities_vanish():
    logits = np.array([[0.0, 1e6], [3.0, 1.0]])
    actual = validator.log_probabilities(logits)
    assert actual == pytest.approx(log_softmax(logits, 1))
    assert actual[0, 0] == -1e6


@pytest.mark.parametrize("counts", [[5, 5, 5], [9, 1, 0], [3, 0, 0], [1, 2, 3, 4]])
def test_the_effective_number_of_classes_is_the_exponential_of_scipys_entropy(counts):
    actual = validator.effective_classes(np.array(counts))
    assert actual == pytest.approx(np.exp(stats.entropy(counts)))
    assert 1 <= actual <= len(counts) + 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.zeros(240)}, r"logits of shape \(240,\)"),
        ({"features": np.zeros((239, 3))}, r"features of shape \(239, 3\); expected \(240, 3\)"),
        ({"source_logits": np.zeros((200, 5))}, r"expected \(200, 4\)"),
        ({"source_labels": np.zeros((200, 1), int)}, r"source_labels of shape \(200, 1\)"),
        ({"source_features": np.zeros((200, 2))}, r"expected \(200, 3\)"),
        ({"train_features": np.zeros((9, 2))}, r"expected \(None, 3\)"),
        ({"peers": np.zeros((2, 240, 5))}, r"expected \(None, 240, 4\)"),
        ({"peers": np.zeros((0, 240, 4))}, "0 peers; expected at least one target item, class"),
        ({"peers": np.zeros((1, 240, 4))}, "peers that are not probabilities"),
        ({"peers": np.full((1, 240, 4), [2.0, -1.0, 0, 0])}, "peers that are not probabilities"),
        ({"train_features": np.zeros((0, 3))}, "200 held-out source items and 0 trained on"),
        ({"source_labels": np.full(200, 4)}, "source labels from 4 to 4.*0 to 3"),
        ({"source_labels": np.full(200, -1)}, "source labels from -1 to -1"),
        ({"logits": np.full((240, 4), np.nan)}, "logits that are not finite.*diverged"),
        ({"train_features": np.full((9, 3), np.inf)}, "train_features that are not finite"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(CrosstrainError, match=message):
        dataclasses.replace(toy.make_candidates()[0], **change)


def test_no_target_item_is_refused():
    with pytest.raises(CrosstrainError, match=r"logits of shape \(0, 4\)"):
        toy.make_candidates(items=0)


def test_no_features_are_refused():
    with pytest.raises(CrosstrainError, match=r"features of shape \(240, 0\)"):
        dataclasses.replace(
            toy.without_source(toy.make_candidates()[0]),
            features=np.zeros((240, 0)),
            source_features=np.zeros((0, 0)),
            train_features=np.zeros((0, 0)),
        )


def test_every_validator_scores_every_candidate():
    candidates = toy.make_candidates()
    scores_by_name = score_all(candidates)
    assert tuple(scores_by_name) == ALL
    for name, scores in scores_by_name.items():
        expected = [all_validators()[name].score(candidate) for candidate in candidates]
        assert scores.tolist() == expected


def test_without_a_source_the_validators_that_need_none_score():
    scores_by_name = score_all(
        [toy.without_source(candidate) for candidate in toy.make_candidates()]
    )
    assert tuple(scores_by_name) == ("agreement", "corr_c", "entropy", "infomax", "snd")


@pytest.mark.parametrize("act", [rank, choose])
def test_a_validator_that_reads_the_source_refuses_candidates_without_one(act):
    candidates = [toy.without_source(candidate) for candidate in toy.make_candidates()]
    with pytest.raises(CrosstrainError, match=r"dev reads source items.*or choose by one of.*snd"):
        act(candidates, "dev")


def test_an_unknown_validator_is_refused_with_those_there_are():
    with pytest.raises(SettingsError, match=r"validators has no 'oracle'.*agreement, corr_c"):
        choose(toy.make_candidates(), "oracle")


@pytest.mark.parametrize("act", [score_all, find_collapsed])
@pytest.mark.parametrize(
    "candidates", [[], [toy.make_candidates()[0], toy.make_candidates(items=30)[0]]]
)
def test_candidates_of_other_items_or_none_are_refused(act, candidates):
    with pytest.raises(CrosstrainError, match="all of the same items and classes"):
        act(candidates)


@pytest.mark.parametrize("name", ALL)
def test_every_validator_chooses_the_good_model_once_the_collapsed_is_left_out(name):
    qualities = ("collapsed", "good", "good", "random", "good")
    choice = choose(toy.make_candidates(qualities), name)
    assert qualities[choice.index] == "good"
    assert list(choice.left_out) == [0]


@pytest.mark.parametrize("name", ["entropy", "snd"])
def test_a_collapsed_model_that_scores_highest_is_left_out_and_the_choice_explains_why(name):
    choice = choose(toy.make_candidates(("collapsed", "good")), name)
    assert choice.scores.argmax() == 0
    assert choice.index == 1
    assert str(choice).startswith(f"{name} chose candidate 1 of 2 (score ")
    assert "left out candidate 0 (score " in str(choice)
    assert "collapsed: 100.0% of 240 items are predicted as class 1" in str(choice)


def test_where_all_have_collapsed_the_choice_states_it():
    choice = choose(toy.make_candidates(("collapsed", "collapsed")), "entropy")
    assert choice.index == choice.scores.argmax()
    assert set(choice.collapsed) == {0, 1}
    assert list(choice.left_out) == [1 - choice.index]
    assert "every candidate has collapsed, so do not use the chosen one" in str(choice)


def test_nothing_is_left_out_where_none_has_collapsed():
    choice = choose(toy.make_candidates(("random", "good")), "infomax")
    assert choice.index == 1
    assert choice.collapsed == choice.left_out == {}
    assert str(choice) == f"infomax chose candidate 1 of 2 (score {choice.scores[1]:.4g})"


def test_the_rank_is_by_score_with_the_collapsed_last_and_the_first_of_equals_first():
    candidates = toy.make_candidates(("collapsed", "random", "good"))
    assert rank(candidates, "entropy") == [2, 1, 0]
    assert rank([candidates[i] for i in (0, 2, 1, 2, 0)], "entropy") == [1, 3, 2, 0, 4]


@pytest.mark.parametrize(
    ("counts", "is_collapsed"),
    [
        ([100, 0], True),
        ([97, 3], True),
        ([90, 10], False),
        ([50, 50], False),
        ([100, 0, 0, 0], True),
        ([50, 50, 0, 0], False),
        ([50, 50] + 8 * [0], True),
        (5 * [20] + 5 * [0], False),
        (25 * [8] + 40 * [0], False),
        (5 * [8] + 60 * [0], True),
        ([100], False),
        ([0, 9], False),
        ([0, 10], True),
    ],
)
def test_nearly_all_items_in_few_classes_is_collapse(counts, is_collapsed):
    assert (explain_collapse(one_hot(counts)) is not None) == is_collapsed


def test_collapse_is_explained_in_words():
    assert explain_collapse(one_hot([2, 198, 0, 0])) == (
        "collapsed: 99.0% of 200 items are predicted as class 1; found 1.06 effective classes of "
        "4, expected about 4.00"
    )


def test_a_model_with_uniform_predictions_has_collapsed_too():
    assert "are predicted as class 0" in explain_collapse(np.zeros((50, 4)))


def test_more_classes_than_items_are_not_expected():
    assert explain_collapse(one_hot([1] * 12 + [0] * 988)) is None
    assert "expected about 12.00" in explain_collapse(one_hot([12] + [0] * 999))


def test_a_source_of_one_common_class_expects_such_a_target():
    logits = one_hot([96, 4])
    assert explain_collapse(logits) is not None
    uneven = source_arrays([90, 10])
    assert find_collapsed([toy.single_candidate(logits, **uneven)]) == {}
    assert find_collapsed([toy.single_candidate(one_hot([100, 0]), **uneven)]).keys() == {0}


def test_candidates_that_predict_more_classes_than_the_source_reveal_a_collapse():
    uneven = source_arrays([90, 10])
    narrow = toy.single_candidate(one_hot([96, 4]), **uneven)
    wide = toy.single_candidate(one_hot([50, 50]), **uneven)
    assert find_collapsed([narrow]) == {}
    assert find_collapsed([wide, narrow, wide]).keys() == {1}
    assert find_collapsed([narrow, wide, narrow]) == {}


def test_a_majority_of_collapsed_candidates_does_not_make_collapse_normal():
    collapsed, good = (
        toy.single_candidate(one_hot([100, 0, 0, 0])),
        toy.single_candidate(one_hot([25, 25, 25, 25])),
    )
    for prepare in (lambda candidate: candidate, toy.without_source):
        candidates = [prepare(candidate) for candidate in (collapsed, good, collapsed, collapsed)]
        assert find_collapsed(candidates).keys() == {0, 2, 3}
        assert choose(candidates, "entropy").index == 1
