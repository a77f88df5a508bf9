"""The advisor puts the better body first, whatever its size, and says how well it was right."""

import time

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import accuracy_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from transfer.core.errors import CrosstrainError
from transfer.transferability.advisor import (
    Agreement,
    Candidate,
    advise,
    agreement,
    nearest_accuracy,
)
from transfer.transferability.h_score import adjusted_h_score
from transfer.transferability.leep import leep
from transfer.transferability.logme import logme
from transfer.transferability.nce import nce

NAMES = ("acer", "betula", "corylus")


def labels_of(items=60, classes=3):
    return np.arange(items) % classes


def body(name, signal, seed=0, items=60, width=12, heads=4, source=80, classes=3):
    """A candidate whose features hold the classes as far apart as signal says."""
    rng = np.random.default_rng(seed)
    labels = labels_of(items, classes)
    features = rng.normal(size=(items, width)) / np.sqrt(np.arange(1, width + 1))
    features[:, :classes] += signal * np.eye(classes)[labels]
    scores = rng.normal(size=(items, heads))
    scores[:, :classes] += signal * np.eye(classes)[labels][:, :heads]
    told = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return Candidate(
        name,
        features.astype(np.float32),
        rng.normal(size=(source, width)) if source else None,
        told if heads else None,
        tuple(f"s{i}" for i in range(heads)),
    )


def names(advice):
    return [found.name for found in advice]


def test_the_body_that_separates_the_classes_comes_first():
    given = [body(f"body{s}", s, seed=i) for i, s in enumerate((0.0, 3.0, 1.5))]
    found = advise(given, labels_of(), NAMES)
    assert names(found) == ["body3.0", "body1.5", "body0.0"]
    assert [advice.rank for advice in found] == [1, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_body_that_knows_nothing_does_not_beat_a_narrow_one_that_does(seed):
    wide = body("wide", 0.0, seed, width=900, heads=0, source=0)
    narrow = body("narrow", 1.0, seed + 9, width=8, heads=0, source=0)
    assert names(advise([wide, narrow], labels_of(), NAMES)) == ["narrow", "wide"]


def test_each_figure_is_that_of_its_measure():
    given, labels = body("one", 1.0), labels_of()
    (found,) = advise([given], labels, NAMES)
    assert found.logme == logme(given.features, labels)
    assert found.h_score == adjusted_h_score(given.features, labels)
    assert found.leep == leep(given.probabilities, labels)
    assert found.nce == nce(given.probabilities, labels)
    assert found.knn == nearest_accuracy(given.features, labels, np.arange(60))
    assert 0 < found.a_distance <= 2 and found.mmd > 0


def test_a_pretrained_package_has_no_distances_and_no_head():
    (found,) = advise([body("package", 1.0, heads=0, source=0)], labels_of(), NAMES)
    assert found.a_distance is found.mmd is found.leep is found.nce is None
    assert found.relation == "disjoint"


@pytest.mark.parametrize(
    ("classes", "relation"),
    [
        (("corylus", "acer", "betula"), "same"),
        (("acer", "betula"), "subset"),
        ((*NAMES, "fagus"), "superset"),
        (("acer", "fagus"), "overlap"),
        (("fagus", "quercus"), "disjoint"),
    ],
)
def test_the_classes_are_compared(classes, relation):
    given = Candidate("one", body("one", 1.0).features, None, None, classes)
    assert advise([given], labels_of(), NAMES)[0].relation == relation


def test_heads_vote_only_when_every_candidate_has_one():
    good, poor = body("a", 1.0, heads=3), body("b", 1.0, heads=3)
    labels = labels_of()
    known = Candidate("b", poor.features, None, np.eye(3)[labels], poor.source_classes)
    assert names(advise([good, known], labels, NAMES)) == ["b", "a"]  # else equal in every score
    headless = Candidate("a", good.features, None, None, ())
    assert names(advise([headless, known], labels, NAMES)) == ["a", "b"]


def test_equal_candidates_go_by_name_and_the_order_given_does_not_matter():
    given = [body("c", 1.0), body("a", 1.0), body("b", 2.0, seed=1)]
    found = advise(given, labels_of(), NAMES)
    assert names(found) == ["b", "a", "c"]
    assert advise(given[::-1], labels_of(), NAMES) == found


def test_the_rank_is_that_of_the_mean_rank():
    given = [body(f"{i}", s, i) for i, s in enumerate((0.4, 0.6, 0.5, 0.7, 0.45, 0.55))]
    found = advise(given, labels_of(), NAMES)
    scores = ("logme", "h_score", "knn", "leep")
    mean = [
        np.mean([sum(getattr(o, s) > getattr(f, s) for o in found) for s in scores])
        + np.mean([sum(getattr(o, s) == getattr(f, s) for o in found) / 2 for s in scores])
        for f in found
    ]
    assert mean == sorted(mean) and mean[0] < mean[-1]


def test_the_nearest_neighbour_is_scikit_learns():
    given, labels = body("one", 1.0), labels_of()
    features = given.features.astype(np.float64)
    peer = KNeighborsClassifier(1, metric="cosine")
    told = cross_val_predict(peer, features - features.mean(0), labels, cv=LeaveOneOut())
    found = nearest_accuracy(given.features, labels, np.arange(60))
    assert found == pytest.approx(accuracy_score(labels, told))


def test_neighbours_of_the_same_group_do_not_count():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    twice, both = np.repeat(rng.normal(size=(40, 6)), 2, 0), np.repeat(labels, 2)
    pairs = [f"g{i}" for i in np.repeat(np.arange(40), 2)]
    given = [Candidate("copies", twice + 1e-4 * rng.normal(size=(80, 6)), None, None, ())]
    assert advise(given, both, NAMES[:2])[0].knn == 1
    assert advise(given, both, NAMES[:2], pairs)[0].knn < 0.8
    assert nearest_accuracy(twice, both, np.zeros(80, int)) == 0


def test_neighbours_that_are_equally_near_share_the_vote():
    labels = np.array([0, 0, 0, 1])
    for constant in (np.full((4, 3), 0.1), np.full((4, 3), 1e9 + 0.1, np.float32)):
        assert nearest_accuracy(constant, labels, np.arange(4)) == pytest.approx(0.5)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0]  # all equally far
    found = nearest_accuracy(turned, np.arange(9) % 3, np.arange(9))
    assert found == pytest.approx(2 / 8)


def test_many_items_are_compared_in_parts():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2100)
    features = np.eye(4)[labels] + 0.01 * rng.normal(size=(2100, 4))
    assert nearest_accuracy(features, labels, np.arange(2100)) == 1


def test_hard_targets_are_borne():
    labels = labels_of(40)
    labels[labels == 2] = 0
    labels[7] = 2  # one item of its class
    constant = Candidate("constant", np.ones((40, 5)), np.ones((9, 5)), None, ())
    wide = body("wide", 1.0, items=40, width=90)
    found = advise([constant, wide], labels, NAMES)
    assert names(found) == ["wide", "constant"]
    figures = [[f.logme, f.h_score, f.knn, f.a_distance, f.mmd] for f in found]
    assert np.isfinite(figures).all()
    many = labels_of(200, 100)
    assert advise(
        [body("k", 2.0, items=200, width=120, classes=100)], many, [*map(str, many[:100])]
    )


def test_the_same_inputs_give_the_same_advice():
    given = [body("a", 1.0, source=600), body("b", 2.0, 1)]
    first = advise(given, labels_of(), NAMES)
    assert advise(given, labels_of(), NAMES) == first


def test_a_usual_target_takes_seconds():
    given = body("large", 1.0, items=300, width=512, source=500)
    start = time.perf_counter()
    (found,) = advise([given], labels_of(300), NAMES)
    assert time.perf_counter() - start < 60 and found.rank == 1


def test_what_does_not_fit_together_is_refused():
    given, labels = body("one", 1.0), labels_of()
    with pytest.raises(CrosstrainError, match=r"candidates \[\]"):
        advise([], labels, NAMES)
    with pytest.raises(CrosstrainError, match="distinct names"):
        advise([given, given], labels, NAMES)
    with pytest.raises(CrosstrainError, match="3 groups for 60 items"):
        advise([given], labels, NAMES, ["a", "b", "c"])
    with pytest.raises(CrosstrainError, match="from 0 to 2 and 2 class names"):
        advise([given], labels, NAMES[:2])
    with pytest.raises(CrosstrainError, match=r"candidate one: .* and 1 source classes"):
        advise([Candidate("one", given.features, None, given.probabilities, ("x",))], labels, NAMES)
    with pytest.raises(CrosstrainError, match="candidate one: found features of shape"):
        advise([given], labels[1:], NAMES)
    with pytest.raises(CrosstrainError, match=r"candidate one: .* of 1 class"):
        advise([given], labels * 0, NAMES)


def test_agreement_is_counted_over_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 15).astype(float), rng.normal(size=15)
    found = agreement(x.tolist(), y.tolist())
    above = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i in range(15) for j in range(i)]
    score = sum(a * b for a, b in above)
    pairs = [sum(abs(p[side]) for p in above) for side in (0, 1)]
    assert found.kendall == pytest.approx(score / np.sqrt(pairs[0] * pairs[1]))
    assert found.kendall == pytest.approx(kendalltau(x, y).statistic)
    ranks = [[np.sum(z < v) + np.sum(z == v) / 2 for v in z] for z in (x, y)]
    assert found.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found.n == 15


def test_agreement_is_1_for_the_same_order_and_minus_1_for_the_reverse():
    outcome = [0.61, 0.7, 0.92, 0.95]
    assert agreement([1, 2, 30, 400], outcome) == Agreement(spearman=1, kendall=1, n=4)
    assert agreement([4, 3, 2, 1], outcome) == Agreement(spearman=-1, kendall=-1, n=4)


def test_agreement_leaves_out_what_is_missing_and_is_none_where_it_is_undefined():
    nan = float("nan")
    found = agreement([1, None, 2, 3, 4], [1, 9, 2, 3, nan])
    assert found == Agreement(spearman=1, kendall=1, n=3)
    for predicted, outcome, n in [
        ([], [], 0),
        ([1, 2], [1, 2], 2),
        ([1, 2, nan], [1, 2, 3], 2),
        ([5, 5, 5], [1, 2, 3], 3),
        ([1, 2, 3], [0.9, 0.9, 0.9], 3),
    ]:
        assert agreement(predicted, outcome) == Agreement(spearman=None, kendall=None, n=n)
    with pytest.raises(CrosstrainError, match="3 predictions and 2 outcomes"):
        agreement([1, 2, 3], [1, 2])
