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
    """Probabilities (N, K) that are 1 for the predicted class."""
    return np.eye(classes)[np.asarray(predicted)]


def table(both, won, lost, neither):
    """Two arms of one seed with given counts of items that both, one or neither gets right."""
    right = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, won, lost, neither], axis=0)
    labels = np.zeros(len(right), int)
    return np.stack([sure(1 - right[:, 0]), sure(1 - right[:, 1])]), labels


def gain(both, won, lost, neither, **more):
    return comparison.paired_gain(*table(both, won, lost, neither), FIRST, SECOND, **PAIR, **more)


@pytest.mark.parametrize("right", [0, 1, 17, 20])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_proportion_interval_equals_scipy(right, level):
    expected = binomtest(right, 20).proportion_ci(level, method="wilson")
    interval = comparison.proportion_interval(right, 20, level=level)
    assert interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_proportions_of_nothing_are_refused():
    for right, items in [(0, 0), (3, 2), (-1, 2)]:
        with pytest.raises(CrosstrainError, match=f"{right} right of {items}"):
            comparison.proportion_interval(right, items, level=0.95)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_with_one_seed_the_interval_is_the_bootstrap_of_paired_differences(level):
    result = gain(700, 60, 20, 220, level=level, replicates=10_000)
    values = np.repeat([1.0, -1.0, 0.0], [60, 20, 920])
    expected = bootstrap(
        (values,), np.mean, confidence_level=level, method="percentile", n_resamples=4000, rng=1
    ).confidence_interval
    assert result.point == pytest.approx(0.04)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_equal_predictions_on_few_items_leave_an_interval():
    for shape in [(20, 0, 0, 0), (12, 0, 0, 8)]:
        result = gain(*shape)
        assert result.low == pytest.approx(-1.96 / 22, abs=1e-4)
        assert result.high == pytest.approx(1.96 / 22, abs=1e-4)
    many = gain(20_000, 0, 0, 0)
    assert many.high < 0.001
    assert gain(0, 5, 0, 0).low < 0.9


def test_one_model_against_itself_is_exactly_equal():
    probabilities, labels = table(10, 3, 2, 5)
    result = comparison.paired_gain(probabilities, labels, FIRST, FIRST, **PAIR)
    assert (result.point, result.low, result.high) == (0, 0, 0)


def test_balanced_accuracy_weighs_classes_equally():
    labels = np.repeat([0, 1], [900, 100])
    better = labels.copy()
    worse = labels.copy()
    worse[900:950] = 0  # half of the small class is lost
    stacked = np.stack([sure(better), sure(worse)])
    plain = comparison.paired_gain(stacked, labels, FIRST, SECOND, **PAIR)
    result = comparison.paired_gain(
        stacked, labels, FIRST, SECOND, **PAIR, metric="balanced_accuracy", replicates=10_000
    )
    assert plain.point == pytest.approx(0.05)
    assert result.point == pytest.approx(0.25)
    rng = np.random.default_rng(1)
    values = []
    for _ in range(4000):
        rows = rng.integers(0, 1000, 1000)
        values.append((worse[rows] != labels[rows]).sum() / (labels[rows] == 1).sum() / 2)
    expected = np.quantile(values, [0.025, 0.975])
    assert [result.low, result.high] == pytest.approx(expected, abs=0.005)


def interval_of_errors(*wrong):
    """Interval of tune/0 over scratch/0 when tune/1 and scratch/1 have these numbers of errors."""
    labels = np.zeros(1000, int)
    rows = [np.arange(1000) < count for count in wrong]
    arms = np.stack([sure(row.astype(int)) for row in rows])
    names = {"methods": ["scratch", "tune"] * 2, "seeds": [0, 0, 1, 1]}
    return comparison.paired_gain(arms, labels, np.eye(4)[1], np.eye(4)[0], **names)


def test_the_same_seed_is_drawn_for_both_mixes():
    same_gain = interval_of_errors(100, 50, 600, 550)
    other_gain = interval_of_errors(100, 50, 600, 300)
    assert same_gain.point == other_gain.point == pytest.approx(0.05)
    assert same_gain.high < 0.07
    assert other_gain.high > 0.5


def test_an_arm_without_the_drawn_seed_is_kept():
    probabilities, labels = table(800, 60, 20, 120)
    alone = comparison.paired_gain(
        probabilities, labels, FIRST, SECOND, methods=["tune", "scratch"], seeds=[0, 1]
    )
    assert alone.high < 0.07


def formula_interval(arms, labels, mixes, replicates, rng):
    """The documented formula, one draw at a time, for arms (methods, seeds, N, K)."""
    seeds, items = arms.shape[1], len(labels)

    def change(draw):
        drawn = [np.einsum("ms,msnk->nk", mix, arms[:, draw]).argmax(1) for mix in mixes]
        return (drawn[0] == labels) * 1.0 - (drawn[1] == labels)

    seed_effects, noise = [], []
    for draw in itertools.product(range(seeds), repeat=seeds):
        renamed = [change([(s + j) % seeds for s in draw]) for j in range(seeds)]
        deviations = renamed[0] - np.mean(renamed, axis=0)  # N
        seed_effects.append(deviations.mean())
        noise.append(deviations.var(ddof=1) / items)
    remaining_share = max(0, 1 - np.mean(noise) / np.mean(np.square(seed_effects)))
    observed, values = change(list(range(seeds))), []
    for _ in range(replicates):
        c = np.sqrt(seeds / rng.chisquare(seeds - 1))
        drawn = observed[rng.integers(0, items, items)].mean()
        values.append(drawn + np.sqrt(remaining_share) * c * rng.choice(seed_effects))
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
    expected = formula_interval(arms[0], labels, MIXES, 20_000, rng)
    flat = arms.reshape(6, 500, 3)
    result = comparison.paired_gain(flat, labels, *MIXES.reshape(2, 6), **NAMES, replicates=20_000)
    assert [result.low, result.high] == pytest.approx(expected, rel=0.06, abs=0.003)


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
        result = comparison.paired_gain(flat, labels, *mixes, **NAMES, replicates=400, seed=number)
        covered.append(result.low <= np.mean(truths) <= result.high)
    assert 0.92 <= np.mean(covered) <= 0.995


def test_many_seeds_are_sampled():
    rng = np.random.default_rng(2)
    arms, labels = simulate(rng, 200, seeds=6)
    names = {"methods": ["tune"] * 6 + ["scratch"] * 6, "seeds": [*range(6)] * 2}
    mixes = np.repeat(np.eye(2), 6, axis=1) / 6
    result = comparison.paired_gain(arms.reshape(12, 200, 3), labels, *mixes, **names)
    assert result.low < result.point < result.high
    again = comparison.paired_gain(arms.reshape(12, 200, 3), labels, *mixes, **names)
    assert again == result
    other = comparison.paired_gain(arms.reshape(12, 200, 3), labels, *mixes, **names, seed=1)
    assert other != result


def test_arguments_that_do_not_fit_are_refused():
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
def test_verdict_is_the_sign_of_the_whole_interval(first, second):
    low, high = sorted((first, second))
    verdict = comparison.verdict(Gain(metric="accuracy", point=low, low=low, high=high))
    assert (verdict == "positive") == (low > 0)
    assert (verdict == "negative") == (high < 0)


@pytest.mark.parametrize(
    ("figures", "expected"),
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
def test_the_verdict_in_a_sentence(figures, expected):
    point, low, high = figures
    gain = Gain(metric="accuracy", point=point, low=low, high=high)
    assert comparison.sentence("mnist", gain, comparison.verdict(gain), 719, 3) == expected


def test_a_sentence_counts_one_and_names_the_metric():
    gain = Gain(metric="balanced_accuracy", point=0.5, low=-0.5, high=1)
    sentence = comparison.sentence("mnist", gain, "none", 1, 1)
    assert "(1 test item, 1 seed)" in sentence
    assert "points balanced accuracy" in sentence
