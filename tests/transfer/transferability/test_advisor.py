"""The advisor ranks the better backbone first at any size, and its ranking can be evaluated."""

import time

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import accuracy_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from transfer.core.errors import CrosstrainError
from transfer.transferability.advisor import (
    Candidate,
    RankCorrelation,
    advise,
    nearest_neighbour_accuracy,
    rank_correlation,
)
from transfer.transferability.h_score import adjusted_h_score
from transfer.transferability.leep import leep
from transfer.transferability.logme import logme
from transfer.transferability.nce import nce

NAMES = ("acer", "betula", "corylus")


def labels_of(items=60, classes=3):
    return np.arange(items) % classes


def make_candidate(name, signal, seed=0, items=60, width=12, heads=4, source=80, classes=3):
    """A candidate whose features separate the classes by ``signal``."""
    rng = np.random.default_rng(seed)
    labels = labels_of(items, classes)
    features = rng.normal(size=(items, width)) / np.sqrt(np.arange(1, width + 1))
    features[:, :classes] += signal * np.eye(classes)[labels]
    scores = rng.normal(size=(items, heads))
    scores[:, :classes] += signal * np.eye(classes)[labels][:, :heads]
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return Candidate(
        name,
        features.astype(np.float32),
        rng.normal(size=(source, width)) if source else None,
        probabilities if heads else None,
        tuple(f"s{i}" for i in range(heads)),
    )


def names(advice):
    return [row.name for row in advice]


def test_the_backbone_that_separates_the_classes_comes_first():
    candidates = [make_candidate(f"signal{s}", s, seed=i) for i, s in enumerate((0.0, 3.0, 1.5))]
    advice = advise(candidates, labels_of(), NAMES)
    assert names(advice) == ["signal3.0", "signal1.5", "signal0.0"]
    assert [row.rank for row in advice] == [1, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_uninformative_backbone_does_not_beat_a_narrow_informative_one(seed):
    wide = make_candidate("wide", 0.0, seed, width=900, heads=0, source=0)
    narrow = make_candidate("narrow", 1.0, seed + 9, width=8, heads=0, source=0)
    assert names(advise([wide, narrow], labels_of(), NAMES)) == ["narrow", "wide"]


def test_each_figure_is_that_of_its_measure():
    candidate, labels = make_candidate("oak", 1.0), labels_of()
    (advice,) = advise([candidate], labels, NAMES)
    assert advice.logme == logme(candidate.features, labels)
    assert advice.h_score == adjusted_h_score(candidate.features, labels)
    assert advice.leep == leep(candidate.probabilities, labels)
    assert advice.nce == nce(candidate.probabilities, labels)
    assert advice.knn == nearest_neighbour_accuracy(candidate.features, labels, np.arange(60))
    assert 0 < advice.a_distance <= 2 and advice.mmd > 0


def test_pretrained_weights_without_data_have_no_distances_and_no_head():
    (advice,) = advise([make_candidate("package", 1.0, heads=0, source=0)], labels_of(), NAMES)
    assert advice.a_distance is advice.mmd is advice.leep is advice.nce is None
    assert advice.relation == "disjoint"


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
    candidate = Candidate("oak", make_candidate("oak", 1.0).features, None, None, classes)
    assert advise([candidate], labels_of(), NAMES)[0].relation == relation


def test_leep_is_used_only_when_every_candidate_has_a_head():
    good, poor = make_candidate("a", 1.0, heads=3), make_candidate("b", 1.0, heads=3)
    labels = labels_of()
    right_head = Candidate("b", poor.features, None, np.eye(3)[labels], poor.source_classes)
    assert names(advise([good, right_head], labels, NAMES)) == [
        "b",
        "a",
    ]  # all other scores are equal
    headless = Candidate("a", good.features, None, None, ())
    assert names(advise([headless, right_head], labels, NAMES)) == ["a", "b"]


def test_equal_candidates_are_ordered_by_name_whatever_the_given_order():
    candidates = [
        make_candidate("c", 1.0),
        make_candidate("a", 1.0),
        make_candidate("b", 2.0, seed=1),
    ]
    advice = advise(candidates, labels_of(), NAMES)
    assert names(advice) == ["b", "a", "c"]
    assert advise(candidates[::-1], labels_of(), NAMES) == advice


def test_the_rank_is_that_of_the_mean_rank():
    candidates = [
        make_candidate(f"{i}", s, i) for i, s in enumerate((0.4, 0.6, 0.5, 0.7, 0.45, 0.55))
    ]
    advice = advise(candidates, labels_of(), NAMES)
    scores = ("logme", "h_score", "knn", "leep")
    mean = [
        np.mean([sum(getattr(o, s) > getattr(f, s) for o in advice) for s in scores])
        + np.mean([sum(getattr(o, s) == getattr(f, s) for o in advice) / 2 for s in scores])
        for f in advice
    ]
    assert mean == sorted(mean) and mean[0] < mean[-1]


def test_the_nearest_neighbour_is_scikit_learns():
    candidate, labels = make_candidate("oak", 1.0), labels_of()
    features = candidate.features.astype(np.float64)
    peer = KNeighborsClassifier(1, metric="cosine")
    predicted = cross_val_predict(peer, features - features.mean(0), labels, cv=LeaveOneOut())
    accuracy = nearest_neighbour_accuracy(candidate.features, labels, np.arange(60))
    assert accuracy == pytest.approx(accuracy_score(labels, predicted))


def test_neighbours_of_the_same_group_do_not_count():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    twice, both = np.repeat(rng.normal(size=(40, 6)), 2, 0), np.repeat(labels, 2)
    pairs = [f"g{i}" for i in np.repeat(np.arange(40), 2)]
    candidates = [Candidate("copies", twice + 1e-4 * rng.normal(size=(80, 6)), None, None, ())]
    assert advise(candidates, both, NAMES[:2])[0].knn == 1
    assert advise(candidates, both, NAMES[:2], pairs)[0].knn < 0.8
    assert nearest_neighbour_accuracy(twice, both, np.zeros(80, int)) == 0


def test_neighbours_that_are_equally_near_share_the_vote():
    labels = np.array([0, 0, 0, 1])
    for constant in (np.full((4, 3), 0.1), np.full((4, 3), 1e9 + 0.1, np.float32)):
        assert nearest_neighbour_accuracy(constant, labels, np.arange(4)) == pytest.approx(0.5)
    rotated = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0]  # all equally far
    accuracy = nearest_neighbour_accuracy(rotated, np.arange(9) % 3, np.arange(9))
    assert accuracy == pytest.approx(2 / 8)


def test_many_items_are_compared_in_parts():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2100)
    features = np.eye(4)[labels] + 0.01 * rng.normal(size=(2100, 4))
    assert nearest_neighbour_accuracy(features, labels, np.arange(2100)) == 1


def test_targets_with_rare_or_many_classes_are_ranked():
    labels = labels_of(40)
    labels[labels == 2] = 0
    labels[7] = 2  # one item of its class
    constant = Candidate("constant", np.ones((40, 5)), np.ones((9, 5)), None, ())
    wide = make_candidate("wide", 1.0, items=40, width=90)
    advice = advise([constant, wide], labels, NAMES)
    assert names(advice) == ["wide", "constant"]
    figures = [[f.logme, f.h_score, f.knn, f.a_distance, f.mmd] for f in advice]
    assert np.isfinite(figures).all()
    many = labels_of(200, 100)
    assert advise(
        [make_candidate("k", 2.0, items=200, width=120, classes=100)], many, [*map(str, many[:100])]
    )


def test_the_same_inputs_give_the_same_advice():
    candidates = [make_candidate("a", 1.0, source=600), make_candidate("b", 2.0, 1)]
    first = advise(candidates, labels_of(), NAMES)
    assert advise(candidates, labels_of(), NAMES) == first


def test_a_target_of_common_size_takes_seconds():
    candidate = make_candidate("large", 1.0, items=300, width=512, source=500)
    start = time.perf_counter()
    (advice,) = advise([candidate], labels_of(300), NAMES)
    assert time.perf_counter() - start < 60 and advice.rank == 1


def test_what_does_not_fit_together_is_refused():
    candidate, labels = make_candidate("oak", 1.0), labels_of()
    with pytest.raises(CrosstrainError, match=r"candidates \[\]"):
        advise([], labels, NAMES)
    with pytest.raises(CrosstrainError, match="distinct names"):
        advise([candidate, candidate], labels, NAMES)
    with pytest.raises(CrosstrainError, match="3 groups for 60 items"):
        advise([candidate], labels, NAMES, ["a", "b", "c"])
    with pytest.raises(CrosstrainError, match="from 0 to 2 and 2 class names"):
        advise([candidate], labels, NAMES[:2])
    with pytest.raises(CrosstrainError, match=r"candidate oak: .* and 1 source classes"):
        advise(
            [Candidate("oak", candidate.features, None, candidate.probabilities, ("x",))],
            labels,
            NAMES,
        )
    with pytest.raises(CrosstrainError, match="candidate oak: found features of shape"):
        advise([candidate], labels[1:], NAMES)
    with pytest.raises(CrosstrainError, match=r"candidate oak: .* of 1 class"):
        advise([candidate], labels * 0, NAMES)


def test_the_rank_correlation_is_counted_over_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 15).astype(float), rng.normal(size=15)
    correlation = rank_correlation(x.tolist(), y.tolist())
    signs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i in range(15) for j in range(i)]
    score = sum(a * b for a, b in signs)
    pairs = [sum(abs(p[side]) for p in signs) for side in (0, 1)]
    assert correlation.kendall == pytest.approx(score / np.sqrt(pairs[0] * pairs[1]))
    assert correlation.kendall == pytest.approx(kendalltau(x, y).statistic)
    ranks = [[np.sum(z < v) + np.sum(z == v) / 2 for v in z] for z in (x, y)]
    assert correlation.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert correlation.n == 15


def test_the_rank_correlation_is_1_for_the_same_order_and_minus_1_for_the_reverse():
    outcome = [0.61, 0.7, 0.92, 0.95]
    assert rank_correlation([1, 2, 30, 400], outcome) == RankCorrelation(spearman=1, kendall=1, n=4)
    assert rank_correlation([4, 3, 2, 1], outcome) == RankCorrelation(spearman=-1, kendall=-1, n=4)


def test_the_rank_correlation_leaves_out_missing_values_and_is_none_where_it_is_undefined():
    nan = float("nan")
    correlation = rank_correlation([1, None, 2, 3, 4], [1, 9, 2, 3, nan])
    assert correlation == RankCorrelation(spearman=1, kendall=1, n=3)
    for predicted, outcome, n in [
        ([], [], 0),
        ([1, 2], [1, 2], 2),
        ([1, 2, nan], [1, 2, 3], 2),
        ([5, 5, 5], [1, 2, 3], 3),
        ([1, 2, 3], [0.9, 0.9, 0.9], 3),
    ]:
        assert rank_correlation(predicted, outcome) == RankCorrelation(
            spearman=None, kendall=None, n=n
        )
    with pytest.raises(CrosstrainError, match="3 predictions and 2 outcomes"):
        rank_correlation([1, 2, 3], [1, 2])
