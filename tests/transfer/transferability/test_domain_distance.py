"""Distances are 0 within a distribution and large between two, and they follow their formulas."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import cross_val_predict

from transfer.core.errors import CrosstrainError
from transfer.transferability import domain_distance
from transfer.transferability.domain_distance import mmd2, mmd_test, proxy_a_distance


def draw(seed, items=60, width=5, moved=0.0, spread=1.0):
    rng = np.random.default_rng(seed)
    features = spread * rng.normal(size=(items, width))
    features[:, 0] += moved
    return features


def by_loops(x, y):
    """Gretton et al. (2012), eq. 3, one pair at a time."""
    pooled = [*x, *y]
    pairs = [(a, b) for i, a in enumerate(pooled) for b in pooled[:i]]
    scale = np.median([((a - b) ** 2).sum() for a, b in pairs])

    def kernel(a, b):
        return sum(np.exp(-((a - b) ** 2).sum() / (c * scale)) for c in (0.25, 0.5, 1, 2, 4))

    def within(z):
        kernels = [kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]
        return np.mean(kernels)

    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


@pytest.mark.parametrize("moved", [0.0, 1.0, 30.0])
def test_mmd_equals_a_double_loop(moved):
    x, y = draw(0, items=17), draw(1, items=12, moved=moved)
    assert mmd2(x, y) == pytest.approx(by_loops(x, y), abs=1e-10)
    assert mmd2(x + 1e4, y + 1e4) == pytest.approx(by_loops(x, y), abs=1e-8)


def test_mmd_within_one_distribution_averages_to_0():
    distances = np.array([mmd2(draw(2 * s, 40), draw(2 * s + 1, 25)) for s in range(300)])
    assert distances.min() < 0 < distances.max()
    assert abs(distances.mean()) < 4 * distances.std() / np.sqrt(300)
    assert distances.std() < 0.1


def test_mmd_grows_with_the_gap_and_detects_a_change_of_spread():
    distances = [mmd2(draw(0), draw(1, moved=gap)) for gap in (0, 1, 2, 8)]
    assert distances == sorted(distances) and distances[-1] > 2
    assert mmd2(draw(0), draw(1, spread=3)) > 0.3


def test_mmd_of_copies_and_of_constant_features_is_defined():
    same = np.ones((6, 3))
    assert mmd2(same, same[:4]) == 0
    assert mmd2(same, 2 * same) > 5  # two points: pairs within are equal, pairs across far apart
    mostly = np.vstack([np.ones((9, 3)), 2 * np.ones((1, 3))])
    assert np.isfinite(mmd2(mostly, same))


def test_large_domains_are_drawn_from_by_seed(monkeypatch):
    monkeypatch.setattr(domain_distance, "MAX_PAIRED_ITEMS", 150)
    x, y = draw(0, items=400, width=2), draw(1, items=100, width=2, moved=1)
    assert mmd2(x, y) == mmd2(x, y, seed=0)
    assert mmd2(x, y) != mmd2(x, y, seed=1)
    assert mmd2(x, y) == pytest.approx(mmd2(x, y, seed=1), rel=0.5)


def test_p_values_of_the_permutation_test_are_uniform_under_one_distribution():
    p_values = [mmd_test(draw(2 * s, 20, 2), draw(2 * s + 1, 15, 2), 99, s)[1] for s in range(200)]
    for level in (0.1, 0.5):
        assert abs(np.mean(np.array(p_values) <= level) - level) < 4 * np.sqrt(level / 200)


def test_the_permutation_test_detects_a_shift_with_the_smallest_possible_p():
    x, y = draw(0), draw(1, moved=2)
    value, p = mmd_test(x, y, permutations=99, seed=3)
    assert value == pytest.approx(mmd2(x, y)) and p == 0.01
    assert mmd_test(x, y, 99, 3) == (value, p)
    assert mmd_test(np.ones((5, 2)), np.ones((4, 2)))[1] == 1


def test_the_p_value_is_the_rank_among_all_assignments():
    x, y = np.array([[0.0], [1.0]]), np.array([[5.0], [6.5]])
    assert mmd_test(x, y, permutations=3000)[1] == pytest.approx(2 / 6, abs=0.04)


@pytest.mark.parametrize(("items", "width"), [((150, 150), 5), ((60, 60), 200), ((900, 40), 20)])
def test_the_a_distance_within_one_distribution_is_near_0(items, width):
    distances = [
        proxy_a_distance(draw(2 * s, items[0], width), draw(2 * s + 1, items[1], width))
        for s in range(15)
    ]
    assert min(distances) == 0 and np.mean(distances) < 0.15


def test_the_a_distance_of_separate_domains_is_2():
    assert proxy_a_distance(draw(0), draw(1, moved=30)) == 2
    assert proxy_a_distance(draw(0, 30, 100), draw(1, 50, 100) + 2) == 2


def test_the_a_distance_is_that_of_the_optimal_linear_classifier():
    x, y = draw(0, 3000, 3), draw(1, 3000, 3, moved=2)
    error = 0.1587  # of a threshold halfway between two normals 2 apart
    assert proxy_a_distance(x, y) == pytest.approx(2 * (1 - 2 * error), abs=0.1)


@pytest.mark.parametrize("width", [4, 150])
def test_its_classifier_errs_as_often_as_scikit_learns(width):
    x, y = draw(0, 100, width, moved=1.5), draw(1, 100, width)
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    side = np.repeat([0, 1], 100)
    predicted = cross_val_predict(peer, np.concatenate([x, y]), side, cv=5)
    assert proxy_a_distance(x, y) == pytest.approx(
        2 * (1 - 2 * (predicted != side).mean()), abs=0.2
    )


def test_a_shift_that_only_shows_against_correlated_features_is_detected():
    x, y = (
        np.repeat(draw(seed, 80, 1, spread=10), 2, 1) + draw(seed + 2, 80, 2) for seed in (0, 1)
    )
    y[:, 0] += 5
    assert proxy_a_distance(x, y) > 1.8


def test_5000_against_100_is_as_far_as_100_against_100():
    target = draw(1, 100, 10, moved=1)
    uneven = np.mean([proxy_a_distance(draw(s, 5000, 10), target) for s in range(2, 12)])
    even = np.mean([proxy_a_distance(draw(s, 100, 10), target) for s in range(2, 12)])
    assert uneven == pytest.approx(even, abs=0.15) and uneven > 0.4
    assert proxy_a_distance(draw(0, 5000, 10), draw(1, 100, 10)) < 0.3


def test_a_linear_classifier_does_not_detect_a_change_of_spread():
    assert proxy_a_distance(draw(0, 300), draw(1, 300, spread=3)) < 0.2


def test_constant_features_are_at_no_distance_and_do_not_hide_others():
    assert proxy_a_distance(np.full((9, 2), 0.1), np.full((7, 2), 0.1)) == 0
    padded = [np.hstack([x, np.full((60, 3), 0.1)]) for x in (draw(0), draw(1, moved=2))]
    assert proxy_a_distance(*padded) == pytest.approx(
        proxy_a_distance(draw(0), draw(1, moved=2)), abs=0.05
    )


def test_units_of_the_features_do_not_matter_and_single_precision_is_accepted():
    x, y = draw(0), draw(1, moved=1)
    units = np.geomspace(1e-6, 1e6, 5)
    assert proxy_a_distance(x * units, y * units) == proxy_a_distance(x, y)
    single = [side.astype(np.float32) for side in (x, y)]
    assert proxy_a_distance(*single) == pytest.approx(proxy_a_distance(x, y), abs=0.05)
    assert mmd2(*single) == pytest.approx(mmd2(x, y), abs=1e-5)


def test_the_same_seed_gives_the_same_distance_and_another_seed_another():
    x, y = draw(0, 300), draw(1, 200, moved=0.7)
    assert proxy_a_distance(x, y, seed=4) == proxy_a_distance(x, y, seed=4)
    assert len({proxy_a_distance(x, y, seed=seed) for seed in range(5)}) > 1


@pytest.mark.parametrize("distance", [proxy_a_distance, mmd2, mmd_test])
def test_what_cannot_be_compared_is_refused(distance):
    with pytest.raises(CrosstrainError, match="of the same backbone"):
        distance(draw(0, width=4), draw(1, width=5))
    with pytest.raises(CrosstrainError, match="at least 2 items"):
        distance(draw(0), draw(1, items=1))
    broken = draw(0)
    broken[2, 1] = np.inf
    with pytest.raises(CrosstrainError, match="target features of 1 of 60 items"):
        distance(draw(1), broken)
