"""Folding against scikit-learn, and a choice that keeps to its rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tests.transfer import tiny
from transfer.core.errors import CrosstrainError
from transfer.methods.building_blocks.closed_form_heads import (
    UNSEEN,
    Affine,
    Rows,
    choose,
    constant,
    cooled,
    frozen,
    logistic,
    losses,
    out_of_fold,
    scores_of,
    spread,
    temperature_of,
    with_head,
)
from transfer.methods.frozen_features.logistic import Logistic


def blobs(n=30, features=5, classes=3, views=1, seed=0, known=None):
    """Rows of Gaussian classes; ``known`` names the classes that have items."""
    rng = np.random.default_rng(seed)
    own = np.arange(classes) if known is None else np.array(known)
    labels = own[np.arange(n) % len(own)]
    centres = rng.normal(size=(classes, features)) * 2
    x = np.concatenate([centres[labels] + rng.normal(size=(n, features)) for _ in range(views)])
    groups = np.array([f"g{i}" for i in range(n)])
    return Rows(x, np.tile(labels, views), np.tile(groups, views), classes, views)


def job(seen, hidden=0):
    return tiny.trainer(Logistic(), seen, tiny.recipe(seen), hidden=hidden).job


def test_maps_compose():
    rng = np.random.default_rng(1)
    one = Affine(rng.normal(size=(4, 5)), rng.normal(size=4))
    two = Affine(rng.normal(size=(3, 4)), rng.normal(size=3))
    x = rng.normal(size=(7, 5))
    np.testing.assert_allclose(one.then(two)(x), two(one(x)))


def test_standardisation_is_that_of_scikit_learn():
    rows = blobs(features=4)
    shifted = replace(rows, features=rows.features * [1, 100, 0.01, 0] + [5, 0, -3, 0.1])
    scaled, scaling = shifted.standardised()
    expected = StandardScaler().fit_transform(shifted.features)
    np.testing.assert_allclose(scaled.features, expected, atol=1e-9)
    np.testing.assert_allclose(scaling(shifted.features), expected, atol=1e-9)
    assert scaled.groups is shifted.groups


def test_views_lie_one_after_another_and_share_label_and_group():
    seen = tiny.items(6, groups=["a", "a", "b", "b", "c", "c"])
    given = job(seen, hidden=2)
    network, _ = frozen(given)
    rows = Rows.of(given, network, 3)
    assert rows.features.shape == (12, 32) and rows.views == 3 and rows.classes == 3
    views = given.embed(network, 3).double().numpy()
    for row in range(12):
        np.testing.assert_array_equal(rows.features[row], views[row // 4, row % 4])
        assert rows.labels[row] == seen.labels[row % 4]
        assert rows.groups[row] == seen.groups[row % 4]


def test_no_labelled_item_is_an_error_that_says_what_to_do():
    given = job(tiny.items(6))
    empty = replace(given, labelled=given.labelled.take(np.zeros(6, bool)))
    with pytest.raises(CrosstrainError, match="label some"):
        Rows.of(empty, empty.network(), 0)


def test_a_frozen_network_is_the_sources_backbone_and_tells_that_its_head_is_fitted():
    given = job(tiny.items(6))
    network, transfers = frozen(given)
    state = network.state_dict()
    assert [t.tensor for t in transfers] == list(state)
    for told in transfers:
        if told.tensor.startswith("head."):
            assert (told.action, told.detail) == ("reinitialised", "fitted in closed form")
        else:
            assert torch.equal(state[told.tensor], given.knowledge.state[told.tensor])


@pytest.mark.parametrize("classes", [3, 2])
@pytest.mark.parametrize(
    "model", [LogisticRegression(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)]
)
def test_a_folded_head_decides_as_scikit_learn_does(classes, model):
    seen = tiny.items(12, classes=classes)
    given = job(seen)
    network, _ = frozen(replace(given, class_names=tiny.CLASSES[:classes]))
    rows = Rows.of(given, network, 4)
    scaled, scaling = rows.standardised()
    model.fit(scaled.features, rows.labels)
    finished = with_head(network, scaling.then(scores_of(model, classes)))
    with torch.inference_mode():
        found = finished.head(torch.from_numpy(rows.features).float()).numpy()
    if classes == 2:
        found = found[:, 1] - found[:, 0]
    np.testing.assert_allclose(found, model.decision_function(scaled.features), 1e-6, 1e-4)
    assert not finished.training and not any(p.requires_grad for p in finished.parameters())


def test_probabilities_of_two_classes_are_those_of_scikit_learn():
    rows = blobs(classes=2)
    (scores,) = logistic(rows, [0.3])
    expected = LogisticRegression(C=0.3, tol=1e-8, max_iter=2000).fit(rows.features, rows.labels)
    odds = np.exp(scores(rows.features))
    np.testing.assert_allclose(
        odds / odds.sum(1, keepdims=True), expected.predict_proba(rows.features), atol=1e-6
    )


def test_a_logistic_regression_is_at_the_minimum_of_its_formula():
    """The gradient of |w|^2 / 2 + C / V * (sum of log losses), by hand."""
    rows = blobs(views=4)
    for strength, scores in zip((0.01, 1.0), logistic(rows, (0.01, 1.0)), strict=True):
        odds = np.exp(scores(rows.features))
        wrong = odds / odds.sum(1, keepdims=True) - np.eye(3)[rows.labels]
        slope = scores.weight + strength / 4 * wrong.T @ rows.features
        assert np.abs(slope).max() < 2e-3 * strength * len(rows.labels)
        assert np.abs(wrong.sum(0)).max() < 2e-3 * len(rows.labels)


def test_doubling_the_views_changes_nothing():
    rows = blobs()
    twice = Rows(
        np.tile(rows.features, (2, 1)), np.tile(rows.labels, 2), np.tile(rows.groups, 2), 3, 2
    )
    (one,), (two,) = logistic(rows, [0.5]), logistic(twice, [0.5])
    np.testing.assert_allclose(one.weight, two.weight, atol=1e-3)


def test_a_class_without_items_is_never_the_answer_however_far_out_an_item_lies():
    rows = blobs(classes=4, known=[0, 2, 3])
    (scores,) = logistic(rows, [1.0])
    far = np.random.default_rng(3).normal(size=(200, 5)) * 100
    found = scores(far)
    assert found.shape == (200, 4) and not (found.argmax(1) == 1).any()
    np.testing.assert_allclose(found[:, 1], found[:, [0, 2, 3]].mean(1) - UNSEEN, atol=1e-9)


def test_a_single_class_is_always_the_answer():
    rows = blobs(known=[2])
    for scores in [constant(rows), *logistic(rows, [0.1, 1.0])]:
        np.testing.assert_array_equal(scores(rows.features)[0], [-UNSEEN, -UNSEEN, 0])


def test_two_known_classes_of_three_keep_their_places():
    own = Affine(np.array([[1.0, 0], [0, 1]]), np.array([0.5, -0.5]))
    scores = spread(own, np.array([2, 0]), 3)
    np.testing.assert_array_equal(scores.weight[[2, 0]], own.weight)
    np.testing.assert_array_equal(scores.bias[[2, 0]], own.bias)


def test_features_that_never_vary_leave_the_classes_shares():
    rows = replace(blobs(n=9), features=np.full((9, 5), 7.0), labels=np.repeat([0, 1], [6, 3]))
    scaled, scaling = rows.standardised()
    (scores,) = logistic(scaled, [10.0])
    odds = np.exp(scaling.then(scores)(rows.features)[0])
    np.testing.assert_allclose(odds[0] / odds[1], 2, rtol=1e-3)


def test_more_features_than_items_do_no_harm():
    rows = blobs(n=6, features=40)
    (scores,) = logistic(rows, [1.0])
    assert (scores(rows.features).argmax(1) == rows.labels).all()


def test_log_losses_are_those_of_their_definition():
    scores = np.array([[0.0, np.log(3.0)], [1000.0, 0.0]])
    np.testing.assert_allclose(losses(scores, np.array([1, 0])), [np.log(4 / 3), 0], atol=1e-12)


def test_the_choice_is_the_least_log_loss_over_folds_that_keep_groups_whole():
    rows = blobs(n=12, views=2)
    pairs = replace(rows, groups=np.array([f"g{i % 12 // 2}" for i in range(24)]))
    seen_by = []

    def path(seen, candidates):
        seen_by.append(set(seen.groups))
        return logistic(seen, candidates)

    candidates = [1e-4, 1e-2, 1.0]
    found = choose(pairs, path, candidates, 3, seed=5)
    total = np.zeros(3)
    for kept in seen_by:
        inside = np.isin(pairs.groups, list(kept))
        for i, strength in enumerate(candidates):
            model = LogisticRegression(C=strength / 2, max_iter=2000)
            model.fit(pairs.features[inside], pairs.labels[inside])
            given = model.predict_proba(pairs.features[~inside])
            total[i] -= np.log(given[np.arange((~inside).sum()), pairs.labels[~inside]]).sum()
    assert found == candidates[total.argmin()]
    assert len(seen_by) == 3
    left_out = [set(pairs.groups) - kept for kept in seen_by]
    assert set.union(*left_out) == set(pairs.groups) and sum(map(len, left_out)) == 6


def test_out_of_fold_scores_are_those_of_classifiers_that_did_not_see_the_group():
    rows = blobs(n=12, views=2)
    single = replace(rows, labels=np.where(rows.groups == "g4", 2, rows.labels % 2))
    scores, judged = out_of_fold(single, logistic, [0.1, 1.0], 99, seed=0)
    np.testing.assert_array_equal(judged, single.groups != "g4")
    for group in ("g0", "g7"):
        seen = single.where(single.groups != group)
        own = single.groups == group
        for given, expected in zip(scores, logistic(seen, [0.1, 1.0]), strict=True):
            np.testing.assert_allclose(given[own], expected(single.features[own]))
    assert not scores[:, ~judged].any()


def test_cooling_divides_known_scores_and_keeps_unseen_classes_low():
    rows = blobs(classes=3, known=[0, 2])
    (scores,) = logistic(rows, [1.0])
    found, before = (one(rows.features) for one in (cooled(scores, 50.0, rows.labels), scores))
    np.testing.assert_allclose(found[:, [0, 2]], before[:, [0, 2]] / 50)
    np.testing.assert_allclose(found[:, 1], found[:, [0, 2]].mean(1) - UNSEEN)


def test_a_temperature_does_not_depend_on_the_unit_of_the_scores():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    scores = np.eye(3)[labels] + rng.normal(size=(60, 3))
    one = temperature_of(scores, labels)
    assert temperature_of(scores * 1e4, labels) == pytest.approx(one * 1e4)
    grid = np.geomspace(0.1, 10, 3000)
    best = grid[np.argmin([losses(scores / t, labels).mean() for t in grid])]
    assert one == pytest.approx(best, rel=0.05)
    assert np.isfinite(temperature_of(np.zeros((4, 3)), labels[:4]))


@pytest.mark.parametrize("noise, expected", [(0.1, 10.0), (1e3, 1e-4)])
def test_a_weak_penalty_is_chosen_for_clear_classes_and_a_strong_one_for_noise(noise, expected):
    rows = blobs(n=60, features=8)
    rng = np.random.default_rng(2)
    means = np.eye(3, 8)[rows.labels]
    rows = replace(rows, features=means + noise * rng.normal(size=means.shape))
    scaled, _ = rows.standardised()
    assert choose(scaled, logistic, [1e-4, 10.0], 5, seed=0) == expected


def test_one_item_a_class_judges_nothing_and_takes_the_middle():
    rows = blobs(n=3, views=4)
    assert choose(rows, logistic, [0.1, 1.0, 10.0], 5, seed=0) == 1.0
    assert choose(blobs(n=1), logistic, [0.1, 1.0, 10.0], 5, seed=0) == 1.0
    assert choose(blobs(), logistic, [7.0], 5, seed=0) == 7.0
