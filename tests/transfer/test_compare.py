import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from transfer import calibrate, compare
from transfer.errors import CrosstrainError, SettingsError
from transfer.result import Gain

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
    return compare.paired_gain(*table(both, won, lost, neither), FIRST, SECOND, **PAIR, **more)


@pytest.mark.parametrize("right", [0, 1, 17, 20])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_proportion_interval_equals_scipy(right, level):
    expected = binomtest(right, 20).proportion_ci(level, method="wilson")
    found = compare.proportion_interval(right, 20, level=level)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_proportions_of_nothing_are_refused():
    for right, items in [(0, 0), (3, 2), (-1, 2)]:
        with pytest.raises(CrosstrainError, match=f"{right} right of {items}"):
            compare.proportion_interval(right, items, level=0.95)


def test_bootstrap_interval_equals_scipy():
    values = np.random.default_rng(0).exponential(size=80)
    expected = bootstrap(
        (values,), np.mean, confidence_level=0.9, method="percentile", n_resamples=4000, rng=1
    ).confidence_interval
    found = compare.bootstrap_interval(values, level=0.9, replicates=4000)
    assert found == pytest.approx((expected.low, expected.high), abs=0.01)
    with pytest.raises(CrosstrainError, match="one finite number or more"):
        compare.bootstrap_interval(np.array([1.0, np.nan]), level=0.9)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_with_one_seed_it_is_the_bootstrap_of_paired_differences(level):
    found = gain(700, 60, 20, 220, level=level, replicates=10_000)
    values = np.repeat([1.0, -1.0, 0.0], [60, 20, 920])
    low, high = compare.bootstrap_interval(values, level=level, replicates=10_000, seed=5)
    assert found.point == pytest.approx(0.04)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.0025)


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
    found = compare.paired_gain(probabilities, labels, FIRST, FIRST, **PAIR)
    assert (found.point, found.low, found.high) == (0, 0, 0)


def test_balanced_accuracy_weighs_classes_alike():
    labels = np.repeat([0, 1], [900, 100])
    better = labels.copy()
    worse = labels.copy()
    worse[900:950] = 0  # half of the small class is lost
    stacked = np.stack([sure(better), sure(worse)])
    plain = compare.paired_gain(stacked, labels, FIRST, SECOND, **PAIR)
    found = compare.paired_gain(
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


def test_a_seed_is_swapped_in_both_mixes_alike():
    """Seed 1 is bad for both methods, so that the difference does not depend on the seed."""
    labels = np.zeros(1000, int)
    good, bad = np.arange(1000) < 100, np.arange(1000) < 600
    better = [wrong & (np.arange(1000) % 2 == 0) for wrong in (good, bad)]
    arms = np.stack([sure(w.astype(int)) for w in (good, bad, *better)])
    names = {"methods": ["scratch"] * 2 + ["tune"] * 2, "seeds": [0, 1, 0, 1]}
    ours, theirs = np.array([0, 0, 1.0, 0]), np.array([1.0, 0, 0, 0])
    found = compare.paired_gain(arms, labels, ours, theirs, **names)
    assert found.point == pytest.approx(0.05)
    assert found.high > 0.3  # of seed 1: 0.3 gain
    lone = compare.paired_gain(
        arms[:3], labels, ours[:3], theirs[:3], methods=["a", "b", "c"], seeds=[0, 1, 0]
    )
    assert lone.high < 0.1  # no arm to swap with


def naive(arms, labels, mixes, seeds, replicates, rng):
    """The documented formula, item by item, for arms (methods, seeds, N, K)."""

    def right(mix, draw):
        return np.einsum("ms,msnk->nk", mix, arms[:, draw]).argmax(1) == labels

    every = [list(np.unravel_index(i, (seeds,) * seeds)) for i in range(seeds**seeds)]
    changes = [right(mixes[0], d) * 1.0 - right(mixes[1], d) for d in every]
    means = np.array([c.mean() for c in changes])
    own = right(mixes[0], range(seeds)).mean() - right(mixes[1], range(seeds)).mean()
    values = []
    for _ in range(replicates):
        d = rng.integers(len(every))
        drawn = changes[d][rng.integers(0, len(labels), len(labels))].mean()
        scale = np.sqrt(seeds / (seeds - 1))
        values.append(own + drawn - means[d] + scale * (means[d] - means.mean()))
    return np.quantile(values, [0.025, 0.975])


def simulate(rng, items, groups=1, seeds=3, skills=(1.3, 1.0), spread=0.1):
    """Arms (groups, 2 methods, seeds, N, 3): shared item noise, own noise, skill by seed."""
    labels = rng.integers(0, 3, items)
    common = rng.normal(size=(items, 3))
    scores = 0.7 * common + 0.7 * rng.normal(size=(groups, 2, seeds, items, 3))
    skill = np.array(skills)[:, None] + spread * rng.normal(size=(groups, 2, seeds))
    scores[..., np.arange(items), labels] += skill[..., None]
    return calibrate.softmax(scores), labels


MIXES = np.array([[[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 1]]]) / 3
NAMES = {"methods": ["tune"] * 3 + ["scratch"] * 3, "seeds": [0, 1, 2] * 2}


def test_interval_over_seeds_equals_the_formula():
    rng = np.random.default_rng(0)
    arms, labels = simulate(rng, 500, spread=0.3)
    expected = naive(arms[0], labels, MIXES, 3, 8000, rng)
    ours, theirs = MIXES.reshape(2, 6)
    flat = arms.reshape(6, 500, 3)
    found = compare.paired_gain(flat, labels, ours, theirs, **NAMES, replicates=8000)
    assert [found.low, found.high] == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("items", [30, 300])
def test_the_interval_covers_the_true_gain(items):
    rng = np.random.default_rng(1)
    ours, theirs = MIXES.reshape(2, 6)
    truths = []
    for _ in range(20):
        arms, labels = simulate(rng, 1000, groups=20)
        right = (np.einsum("xms,gmsnk->xgnk", MIXES, arms).argmax(-1) == labels).mean((1, 2))
        truths.append(right[0] - right[1])
    covered = 0
    for number in range(300):
        arms, labels = simulate(rng, items)
        found = compare.paired_gain(
            arms.reshape(6, items, 3), labels, ours, theirs, **NAMES, replicates=500, seed=number
        )
        covered += found.low <= np.mean(truths) <= found.high
    assert 0.92 <= covered / 300 <= 0.995


def test_many_seeds_are_sampled():
    rng = np.random.default_rng(2)
    arms, labels = simulate(rng, 200, seeds=6)
    names = {"methods": ["tune"] * 6 + ["scratch"] * 6, "seeds": [*range(6)] * 2}
    mixes = np.repeat(np.eye(2), 6, axis=1) / 6
    found = compare.paired_gain(arms.reshape(12, 200, 3), labels, *mixes, **names)
    assert found.low < found.point < found.high
    again = compare.paired_gain(arms.reshape(12, 200, 3), labels, *mixes, **names)
    assert again == found
    other = compare.paired_gain(arms.reshape(12, 200, 3), labels, *mixes, **names, seed=1)
    assert other != found


def test_what_does_not_fit_is_refused():
    probabilities, labels = table(3, 1, 1, 1)
    with pytest.raises(SettingsError, match=r"'f1'.*accuracy, balanced_accuracy"):
        compare.paired_gain(probabilities, labels, FIRST, SECOND, **PAIR, metric="f1")
    with pytest.raises(CrosstrainError, match="each method and seed once"):
        compare.paired_gain(probabilities, labels, FIRST, SECOND, methods=["a"] * 2, seeds=[0] * 2)
    with pytest.raises(CrosstrainError, match=r"\(6, 2\).*\(5,\)"):
        compare.paired_gain(probabilities, labels[:5], FIRST, SECOND, **PAIR)
    with pytest.raises(CrosstrainError, match="that sum to 1"):
        compare.paired_gain(probabilities, labels, FIRST * 2, SECOND, **PAIR)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_verdict_is_the_sign_that_the_whole_interval_has(one, other):
    low, high = sorted((one, other))
    told = compare.verdict(Gain(metric="accuracy", point=low, low=low, high=high))
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
    assert compare.sentence("mnist", found, compare.verdict(found), 719, 3) == told


def test_a_sentence_counts_one_and_names_the_metric():
    found = Gain(metric="balanced_accuracy", point=0.5, low=-0.5, high=1)
    told = compare.sentence("mnist", found, "none", 1, 1)
    assert "(1 test item, 1 seed)" in told
    assert "points balanced accuracy" in told
