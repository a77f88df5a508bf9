import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from transfer.core.errors import CrosstrainError, SettingsError
from transfer.evaluation import comparison
from transfer.evaluation.report_schema import Gain
from transfer.metrics import calibration

FIRST, SECOND = np.array([1.0, 0.0]), np.array([0.0, 1.0])
PAIR = {"methods": ["tune", "scratch"], "seeds": [0, 0]}


def sure(predicted, classes=2):
    """Probabilities (N, K) that say one class outright."""
    return np.eye(classes)[np.asarray(predicted)]


def table(both, won, lost, neither):
    """Two arms of one seed that are right and wrong together as often as told."""
    right = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, won, lost, neither], axis=0)
    labels = np.zeros(len(right), int)
    return np.stack([sure(1 - right[:, 0]), sure(1 - right[:, 1])]), labels


def gain(both, won, lost, neither, **more):
    return comparison.paired_gain(*table(both, won, lost, neither), FIRST, SECOND, **PAIR, **more)


@pytest.mark.parametrize("right", [0, 1, 17, 20])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_proportion_interval_equals_scipy(right, level):
    expected = binomtest(right, 20).proportion_ci(level, method="wilson")
    found = comparison.proportion_interval(right, 20, level=level)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_proportions_of_nothing_are_refused():
    for right, items in [(0, 0), (3, 2), (-1, 2)]:
        with pytest.raises(CrosstrainError, match=f"{right} right of {items}"):
            comparison.proportion_interval(right, items, level=0.95)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_with_one_seed_it_is_the_bootstrap_of_paired_differences(level):
    found = gain(700, 60, 20, 220, level=level, replicates=10_000)
    values = np.repeat([1.0, -1.0, 0.0], [60, 20, 920])
    expected = bootstrap(
        (values,), np.mean, confidence_level=level, method="percentile", n_resamples=4000, rng=1
    ).confidence_interval
    assert found.point == pytest.approx(0.04)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_agreement_on_few_items_is_no_certainty():
    for shape in [(20, 0, 0, 0), (12, 0, 0, 8)]:
        found = gain(*shape)
        assert found.low == pytest.approx(-1.96 / 22, abs=1e-4)
        assert found.high == pytest.approx(1.96 / 22, abs=1e-4)
    many = gain(20_000, 0, 0, 0)
    assert many.high < 0.001
    assert gain(0, 5, 0, 0).low < 0.9


def test_one_model_against_itself_is_exactly_equal():
    probabilities, labels = table(10, 3, 2, 5)
    found = comparison.paired_gain(probabilities, labels, FIRST, FIRST, **PAIR)
    assert (found.point, found.low, found.high) == (0, 0, 0)


def test_balanced_accuracy_weighs_classes_alike():
    labels = np.repeat([0, 1], [900, 100])
    better = labels.copy()
    worse = labels.copy()
    worse[900:950] = 0  # half of the small class is lost
    stacked = np.stack([sure(better), sure(worse)])
    plain = comparison.paired_gain(stacked, labels, FIRST, SECOND, **PAIR)
    found = comparison.paired_gain(
        stacked, labels, FIRST, SECOND, **PAIR, metric="balanced_accuracy", replicates=10_000
    )
    assert plain.point == pytest.approx(0.05)
    assert found.point == pytest.approx(0.25)
    rng = np.random.default_rng(1)
    values = []
    for _ in range(4000):
        rows = rng.integers(0, 1000, 1000)
        values.append((worse[rows] != labels[rows]).sum() / (labels[rows] == 1).sum() / 2)
    expected = np.quantile(values, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(expected, abs=0.005)


def swapped(*wrong):
    """Interval of tune/0 over scratch/0 when tune/1 and scratch/1 are wrong as often as told."""
    labels = np.zeros(1000, int)
    rows = [np.arange(1000) < count for count in wrong]
    arms = np.stack([sure(row.astype(int)) for row in rows])
    names = {"methods": ["scratch", "tune"] * 2, "seeds": [0, 0, 1, 1]}
    return comparison.paired_gain(arms, labels, np.eye(4)[1], np.eye(4)[0], **names)


def test_a_seed_is_drawn_for_both_mixes_alike():
    same_gain = swapped(100, 50, 600, 550)
    other_gain = swapped(100, 50, 600, 300)
    assert same_gain.point == other_gain.point == pytest.approx(0.05)
    assert same_gain.high < 0.07
    assert other_gain.high > 0.5


def test_an_arm_without_the_drawn_seed_stays():
    probabilities, labels = table(800, 60, 20, 120)
    alone = comparison.paired_gain(
        probabilities, labels, FIRST, SECOND, methods=["tune", "scratch"], seeds=[0, 1]
    )
    assert alone.high < 0.07


def naive(arms, labels, mixes, replicates, rng):
    """The documented formula, draw by draw, for arms (methods, seeds, N, K)."""
    seeds, items = arms.shape[1], len(labels)

    def change(draw):
        drawn = [np.einsum("ms,msnk->nk", mix, arms[:, draw]).argmax(1) for mix in mixes]
        return (drawn[0] == labels) * 1.0 - (drawn[1] == labels)

    off, noise = [], []
    for draw in itertools.product(range(seeds), repeat=seeds):
        renamed = [change([(s + j) % seeds for s in draw]) for j in range(seeds)]
        apart = renamed[0] - np.mean(renamed, axis=0)  # N
        off.append(apart.mean())
        noise.append(apart.var(ddof=1) / items)
    left = max(0, 1 - np.mean(noise) / np.mean(np.square(off)))
    own, values = change(list(range(seeds))), []
    for _ in range(replicates):
        c = np.sqrt(seeds / rng.chisquare(seeds - 1))
        drawn = own[rng.integers(0, items, items)].mean()
        values.append(drawn + np.sqrt(left) * c * rng.choice(off))
    return np.quantile(values, [0.025, 0.975])


def simulate(rng, items, groups=1, seeds=3, spread=0.1):
    """Arms (groups, 2 methods, seeds, N, 3): shared item noise, own noise, skill by seed."""
    labels = rng.integers(0, 3, items)
    common = rng.normal(size=(items, 3))
    scores = 0.7 * common + 0.7 * rng.normal(size=(groups, 2, seeds, items, 3))
    skill = np.array([[1.3], [1.0]]) + spread * rng.normal(size=(groups, 2, seeds))
    scores[..., np.arange(items), labels] += skill[..., None]
    return calibration.softmax(scores), labels


MIXES = np.array([[[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 1]]]) / 3
NAMES = {"methods": ["tune"] * 3 + ["scratch"] * 3, "seeds": [0, 1, 2] * 2}


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_interval_over_seeds_equals_the_formula(spread):
    rng = np.random.default_rng(2)
    arms, labels = simulate(rng, 500, spread=spread)
    expected = naive(arms[0], labels, MIXES, 20_000, rng)
    flat = arms.reshape(6, 500, 3)
    found = comparison.paired_gain(flat, labels, *MIXES.reshape(2, 6), **NAMES, replicates=20_000)
    assert [found.low, found.high] == pytest.approx(expected, rel=0.06, abs=0.003)


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("items", [30, 300])
def test_the_interval_covers_the_true_gain(items, spread):
    rng = np.random.default_rng(1)
    truths = []
    for _ in range(20):
        arms, labels = simulate(rng, 500, groups=30, spread=spread)
        right = (np.einsum("xms,gmsnk->xgnk", MIXES, arms).argmax(-1) == labels).mean((1, 2))
        truths.append(right[0] - right[1])
    covered = []
    for number in range(300):
        arms, labels = simulate(rng, items, spread=spread)
        flat, mixes = arms.reshape(6, items, 3), MIXES.reshape(2, 6)
        found = comparison.paired_gain(flat, labels, *mixes, **NAMES, replicates=400, seed=number)
        covered.append(found.low <= np.mean(truths) <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.995


def test_many_seeds_are_sampled():
    rng = np.random.default_rng(2)
    arms, labels = simulate(rng, 200, seeds=6)
    names = {"methods": ["tune"] * 6 + ["scratch"] * 6, "seeds": [*range(6)] * 2}
    mixes = np.repeat(np.eye(2), 6, axis=1) / 6
    found = comparison.paired_gain(arms.reshape(12, 200, 3), labels, *mixes, **names)
    assert found.low < found.point < found.high
    again = comparison.paired_gain(arms.reshape(12, 200, 3), labels, *mixes, **names)
    assert again == found
    other = comparison.paired_gain(arms.reshape(12, 200, 3), labels, *mixes, **names, seed=1)
    assert other != found


def test_what_does_not_fit_is_refused():
    probabilities, labels = table(3, 1, 1, 1)
    with pytest.raises(SettingsError, match=r"'f1'.*accuracy, balanced_accuracy"):
        comparison.paired_gain(probabilities, labels, FIRST, SECOND, **PAIR, metric="f1")
    with pytest.raises(CrosstrainError, match="each method and seed once"):
        comparison.paired_gain(
            probabilities, labels, FIRST, SECOND, methods=["a"] * 2, seeds=[0] * 2
        )
    with pytest.raises(CrosstrainError, match=r"\(6, 2\).*\(5,\)"):
        comparison.paired_gain(probabilities, labels[:5], FIRST, SECOND, **PAIR)
    with pytest.raises(CrosstrainError, match="that sum to 1"):
        comparison.paired_gain(probabilities, labels, FIRST * 2, SECOND, **PAIR)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_verdict_is_the_sign_that_the_whole_interval_has(one, other):
    low, high = sorted((one, other))
    told = comparison.verdict(Gain(metric="accuracy", point=low, low=low, high=high))
    assert (told == "positive") == (low > 0)
    assert (told == "negative") == (high < 0)


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        (
            (0.023, 0.011, 0.036),
            "Transfer from mnist helps: +2.3 points accuracy [1.1, 3.6] over training from "
            "scratch (719 test items, 3 seeds), verdict positive.",
        ),
        (
            (-0.0001, -0.004, 0.011),
            "Transfer from mnist makes no difference that this test can tell: +0.0 points accuracy "
            "[-0.4, 1.1] against training from scratch (719 test items, 3 seeds), verdict none.",
        ),
        (
            (-0.023, -0.036, -0.011),
            "Transfer from mnist hurts: -2.3 points accuracy [-3.6, -1.1] against training from "
            "scratch (719 test items, 3 seeds), verdict negative.",
        ),
    ],
)
def test_the_verdict_in_a_sentence(figures, told):
    point, low, high = figures
    found = Gain(metric="accuracy", point=point, low=low, high=high)
    assert comparison.sentence("mnist", found, comparison.verdict(found), 719, 3) == told


def test_a_sentence_counts_one_and_names_the_metric():
    found = Gain(metric="balanced_accuracy", point=0.5, low=-0.5, high=1)
    told = comparison.sentence("mnist", found, "none", 1, 1)
    assert "(1 test item, 1 seed)" in told
    assert "points balanced accuracy" in told
