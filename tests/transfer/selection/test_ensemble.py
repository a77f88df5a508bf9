import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from transfer.core.errors import CrosstrainError, SettingsError
from transfer.metrics import calibration, classification
from transfer.selection import ensemble

METHODS = ["scratch", "scratch", "probe", "probe", "tune", "tune"]
APART = ["a", "b", "c", "d", "e", "f"]


def draw(seed, items=200, skill=(0.5, 0.6, 1.0, 1.1, 1.2, 1.4), classes=4, shared=0.5):
    """Calibrated arms of given skill whose errors are partly shared."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, items)
    common = rng.normal(size=(items, classes))
    scores = []
    for level in skill:
        arm_scores = shared * common + (1 - shared**2) ** 0.5 * rng.normal(size=(items, classes))
        arm_scores[np.arange(items), labels] += level
        scores.append(arm_scores * level)
    return calibration.softmax(np.stack(scores)), labels


def loss(weights, probabilities, labels):
    return classification.log_loss(ensemble.combine(probabilities, weights), labels)


def test_simple_schemes_follow_their_definition():
    probabilities, labels = draw(0)
    singles = [classification.log_loss(p, labels) for p in probabilities]
    best = ensemble.fit("best", probabilities, labels, METHODS)
    assert np.array_equal(best, np.arange(6) == np.argmin(singles))
    pairs = [classification.log_loss(probabilities[i : i + 2].mean(0), labels) for i in (0, 2, 4)]
    method = ensemble.fit("uniform_method", probabilities, labels, METHODS)
    assert np.array_equal(method, np.repeat(np.arange(3) == np.argmin(pairs), 2) / 2)
    assert ensemble.fit("uniform", probabilities, labels, METHODS) == pytest.approx(1 / 6)


def test_greedy_follows_a_plain_calculation():
    probabilities, labels = draw(1)
    picked, losses = [], []
    for _ in range(50):
        options = [
            classification.log_loss(probabilities[[*picked, a]].mean(0), labels) for a in range(6)
        ]
        picked.append(int(np.argmin(options)))
        losses.append(min(options))
    kept = picked[: int(np.argmin(losses)) + 1]
    expected = np.bincount(kept, minlength=6) / len(kept)
    assert ensemble.fit("greedy", probabilities, labels, APART) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(6))
def test_weights_reach_the_minimum_that_scipy_finds(seed):
    probabilities, labels = draw(seed, items=150)
    weights = ensemble.fit("weighted", probabilities, labels, APART)
    minimum = minimize(
        lambda w: loss(np.abs(w) / np.abs(w).sum(), probabilities, labels),
        np.full(6, 1 / 6),
        bounds=[(0, 1)] * 6,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-10},
    )
    assert loss(weights, probabilities, labels) == pytest.approx(minimum.fun, abs=3e-5)
    assert weights == pytest.approx(minimum.x, abs=0.02)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(list(ensemble.SCHEMES)), st.permutations(range(6)))
def test_weights_are_a_distribution_and_follow_the_arms(seed, scheme, order):
    probabilities, labels = draw(seed, items=40)
    weights = ensemble.fit(scheme, probabilities, labels, METHODS)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    shares = weights.reshape(-1, 2).sum(1)  # of methods, each of two seeds
    assert not ((shares > 0) & (shares < 1e-3)).any()
    order = list(order)
    moved = ensemble.fit(scheme, probabilities[order], labels, [METHODS[a] for a in order])
    assert moved == pytest.approx(weights[order], abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(["best", "greedy", "weighted"]))
def test_a_useless_arm_does_not_worsen_the_fit(seed, scheme):
    probabilities, labels = draw(seed, items=40)
    before = loss(ensemble.fit(scheme, probabilities, labels, METHODS), probabilities, labels)
    inverted = 1 - probabilities[:1]  # a poor arm whose mistakes follow the first one's successes
    more = np.concatenate([probabilities, inverted / inverted.sum(2, keepdims=True)])
    after = loss(ensemble.fit(scheme, more, labels, [*METHODS, "useless"]), more, labels)
    assert after <= before + (1e-5 if scheme != "greedy" else 1e-3)


@pytest.mark.parametrize("items", [2, 7, 200])
def test_of_equal_arms_a_single_method_is_chosen(items):
    probabilities, labels = draw(3, items=items)
    equal = np.repeat(probabilities[:1], 6, axis=0)
    choice = ensemble.choose(equal, labels, METHODS)
    assert choice.scheme == "uniform_method"
    assert choice.weights.tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert len({round(score, 9) for score in choice.scores.values()}) == 1


def test_independent_arms_of_equal_skill_are_averaged():
    probabilities, labels = draw(4, items=600, skill=(1.0,) * 6, shared=0.0)
    choice = ensemble.choose(probabilities, labels, METHODS)
    assert choice.scheme == "uniform"
    assert choice.scores["uniform"] < choice.scores["best"]


def test_fitted_weights_are_chosen_where_they_lower_the_loss():
    probabilities, labels = draw(5, items=3000, skill=(0.1, 0.1, 2.0, 0.1, 1.5, 0.1), shared=0.0)
    choice = ensemble.choose(probabilities, labels, APART)
    assert choice.scheme in ("greedy", "weighted")
    assert choice.weights[[2, 4]].sum() > 0.9


@pytest.mark.parametrize("scheme", ["uniform_method", "uniform", "greedy", "weighted"])
def test_seeds_of_a_method_share_its_weight(scheme):
    probabilities, labels = draw(3)
    weights = ensemble.fit(scheme, probabilities, labels, METHODS)
    assert weights[::2] == pytest.approx(weights[1::2])


def test_a_lucky_seed_of_a_worse_method_is_not_preferred():
    skill = (1.0, 1.0, 1.75, 1.6, 1.6, 1.6)  # the third seed of the first method is lucky
    methods = ["scratch"] * 3 + ["tune"] * 3
    probabilities, labels = draw(7, items=100, skill=skill)
    singles = [classification.log_loss(p, labels) for p in probabilities]
    assert int(np.argmin(singles)) == 2
    for scheme in ("best", "uniform_method"):
        weights = ensemble.fit(scheme, probabilities, labels, methods)
        assert weights[:3].sum() == 0
    assert ensemble.choose(probabilities, labels, methods).weights[2] < 0.2


def test_scores_are_cross_fitted():
    probabilities, labels = draw(6, items=40, skill=(0.3,) * 6, shared=0.0)
    choice = ensemble.choose(probabilities, labels, METHODS)
    fitted = ensemble.fit("weighted", probabilities, labels, METHODS)
    assert choice.scores["weighted"] > loss(fitted, probabilities, labels)
    assert choice.scores["uniform"] == pytest.approx(loss(np.full(6, 1 / 6), probabilities, labels))


def test_only_the_requested_schemes_are_tried():
    probabilities, labels = draw(7)
    choice = ensemble.choose(probabilities, labels, METHODS, schemes=["weighted", "uniform"])
    assert list(choice.scores) == ["uniform", "weighted"]
    with pytest.raises(SettingsError, match=r"'stacking'.*'best'"):
        ensemble.choose(probabilities, labels, METHODS, schemes=["stacking"])
    with pytest.raises(SettingsError, match="stacking"):
        ensemble.fit("stacking", probabilities, labels, METHODS)


def test_arguments_that_do_not_fit_are_refused():
    probabilities, labels = draw(8)
    with pytest.raises(CrosstrainError, match="1 method names"):
        ensemble.choose(probabilities, labels, ["scratch"])
    with pytest.raises(CrosstrainError, match="at least 2"):
        ensemble.choose(probabilities[:, :1], labels[:1], METHODS)
    with pytest.raises(CrosstrainError, match="expected probabilities"):
        ensemble.choose(probabilities * 2, labels, METHODS)
    for weights in ([0.5, 0.5], [1.0] * 6, [2.0, -1.0, 0, 0, 0, 0]):
        with pytest.raises(CrosstrainError, match="for 6 arms"):
            ensemble.combine(probabilities, np.array(weights))


def test_a_mix_is_the_weighted_sum():
    probabilities, _ = draw(9)
    weights = np.array([0.2, 0, 0.3, 0, 0.5, 0])
    expected = 0.2 * probabilities[0] + 0.3 * probabilities[2] + 0.5 * probabilities[4]
    assert ensemble.combine(probabilities, weights) == pytest.approx(expected)
