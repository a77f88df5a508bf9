"""Each statistic is what SciPy or a loop gives, p-values keep their promise, and drift is found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from transfer.deployment.monitoring import drift
from transfer.deployment.monitoring.drift import TESTS, MonitorSettings
from transfer.deployment.monitoring.reference import Outputs, Reference
from transfer.transferability.domain_distance import mmd2

FEW = MonitorSettings(permutations=599)


def seen(n, seed, moved=0.0, classes=4, only=None):
    """Features around 0, light around a half, and sure predictions of equally frequent classes."""
    rng = np.random.default_rng(seed)
    said = rng.integers(0, classes, n) if only is None else rng.choice(only, n)
    sure = rng.uniform(0.5, 1.0, n)
    probabilities = np.repeat(((1 - sure) / (classes - 1))[:, None], classes, 1)
    probabilities[np.arange(n), said] = sure
    return Outputs(
        (rng.normal(size=(n, 6)) + moved).astype("f4"),
        probabilities.astype("f4"),
        rng.normal(0.5, 0.1, (n, 3)).astype("f4"),
    )


def reference(n=150, seed=0):
    return Reference(seen(n, seed), usable=990, rejected=10, tested=400, right=380)


def alarms(new, settings=FEW, **told):
    found = drift.run(reference(), new, settings, **{"rejected": 0, **told})
    return [test.name for test in found if test.drifted]


def test_the_effect_on_features_is_the_share_of_the_largest_discrepancy():
    x, y = seen(40, 1).features, seen(30, 2, moved=1).features
    found = drift.features(x, y, FEW)
    both = np.concatenate([x, y]).astype(float)
    scaled = (both - both.mean(0)) / both.std(0)
    assert found.effect == pytest.approx(np.sqrt(mmd2(scaled[:40], scaled[40:]) / 10))
    far = drift.features(x, y[:6] * 0.01 + 1e4, FEW)
    assert 0.8 < far.effect <= 1 and far.p == 1 / 600
    assert drift.features(np.ones((9, 3)), np.ones((5, 3)), FEW) == drift.Result(1.0, 0.0)


def test_confidence_is_the_distance_of_kolmogorov_and_smirnov_also_with_ties():
    for digits in (6, 1):
        x, y = (seen(n, n).probabilities.round(digits) for n in (60, 25))
        found = drift.confidence(x, y, MonitorSettings(permutations=4000))
        peer = stats.ks_2samp(x.max(1), y.max(1))
        assert found.effect == pytest.approx(peer.statistic)
        if digits == 6:
            assert found.p == pytest.approx(peer.pvalue, abs=0.04)


def test_few_deals_at_a_time_are_all_deals(monkeypatch):
    x, y = seen(30, 0).probabilities, seen(20, 1).probabilities
    whole = drift.confidence(x, y, FEW)
    monkeypatch.setattr(drift, "BLOCK", 300)
    assert drift.confidence(x, y, FEW) == whole


def by_loops(old, young, deals, rng):
    """The least exact tail of a class, dealt anew one deal at a time."""
    pooled = np.concatenate([np.repeat(np.arange(len(c)), c) for c in (old, young)])
    both, n = old + young, young.sum()

    def least(counts):
        tails = []
        for x, items in zip(counts, both, strict=True):
            law = stats.hypergeom(both.sum(), items, n)
            tails.append(min(law.cdf(x), law.sf(x - 1)))
        return min(tails)

    found = [
        least(np.bincount(rng.permutation(pooled)[:n], minlength=len(both))) for _ in range(deals)
    ]
    return np.mean(np.array(found) <= least(young) * (1 + 1e-9))


def test_predicted_labels_are_tested_as_a_loop_does():
    old, young = np.array([20, 30, 10]), np.array([9, 3, 4])
    x, y = (np.repeat(np.eye(3), counts, axis=0) for counts in (old, young))
    found = drift.labels(x, y, MonitorSettings(permutations=4000))
    assert found.p == pytest.approx(by_loops(old, young, 400, np.random.default_rng(3)), abs=0.08)
    assert found.effect == pytest.approx(np.abs(old / 60 - young / 16).sum() / 2)
    with_empty = drift.labels(np.pad(x, ((0, 0), (0, 2))), np.pad(y, ((0, 0), (0, 2))), FEW)
    assert with_empty.effect == pytest.approx(found.effect)
    assert with_empty.p == pytest.approx(found.p, abs=0.08)


@given(st.integers(0, 30), st.integers(0, 40), st.integers(1, 30), st.integers(1, 40))
def test_more_often_is_fishers_exact_test(hits, known, others, known_others):
    found = drift.more_often(hits, hits + others, known, known + known_others)
    peer = stats.fisher_exact([[hits, others], [known, known_others]], alternative="greater")
    assert found.p == pytest.approx(peer.pvalue, rel=1e-6)
    gap = hits / (hits + others) - known / (known + known_others)
    assert found.effect == pytest.approx(max(gap, 0))


@given(st.dictionaries(st.sampled_from(TESTS), st.floats(0, 1), min_size=1))
def test_holm_is_the_textbook_over_all_tests_that_there_are(p):
    found = drift.holm(p)
    full = sorted([*p.values(), *([1.0] * (len(TESTS) - len(p)))])
    steps = np.maximum.accumulate([min(1, q * (6 - i)) for i, q in enumerate(full)])
    told = sorted(found.values())
    assert told == pytest.approx(steps[: len(p)].tolist())
    assert all(found[name] >= p[name] for name in p)


def test_nothing_is_found_about_as_often_as_the_level_says():
    loose = MonitorSettings(level=0.2, permutations=99, min_items=5)
    times = 0
    for s in range(150):
        known = Reference(seen(50, 2 * s), 980, 20, 400, 380)
        rng = np.random.default_rng(s)
        told = {"rejected": int(rng.binomial(20, 0.02)), "right": int(rng.binomial(20, 0.95))}
        tests = drift.run(known, seen(20, 2 * s + 1), loose, labelled=20, **told)
        times += any(test.drifted for test in tests)
    assert 0 < times <= 150 * 0.2 + 3 * np.sqrt(150 * 0.2 * 0.8)


def test_each_kind_of_drift_is_found_by_its_own_test():
    assert alarms(seen(60, 9), labelled=60, right=57) == []
    assert alarms(seen(60, 9, moved=1)) == ["features"]
    assert alarms(seen(60, 9, only=[0, 1, 2])) == ["labels"]
    assert alarms(seen(60, 9), rejected=12) == ["rejects"]
    assert alarms(seen(60, 9), labelled=60, right=40) == ["accuracy"]
    dim = seen(60, 9)
    assert alarms(Outputs(dim.features, dim.probabilities, dim.summary * 0.6)) == ["summary"]
    doubt = 0.7 * dim.probabilities + 0.3 / 4
    assert alarms(Outputs(dim.features, doubt, dim.summary)) == ["confidence"]


def test_what_is_too_little_is_not_tested_and_counts_all_the_same():
    told = {t.name: t for t in drift.run(reference(), seen(9, 3, moved=9), FEW, rejected=30)}
    assert told["features"].p is None and told["features"].adjusted == 1
    assert not told["features"].drifted and told["features"].effect is None
    assert told["rejects"].drifted
    assert told["rejects"].adjusted == pytest.approx(6 * told["rejects"].p)
    tests = drift.run(reference(), seen(0, 3), FEW, rejected=3)
    assert [test.p for test in tests] == [None] * 6


def test_two_items_are_enough_if_the_settings_allow_it():
    two = MonitorSettings(permutations=599, min_items=2)
    assert alarms(seen(2, 3), two) == []
    assert alarms(seen(2, 3, moved=50), two) == ["features"]


def test_the_same_seed_gives_the_same_p_values():
    first, again = (drift.run(reference(), seen(30, 4), FEW, rejected=0) for _ in range(2))
    assert first == again
    other = MonitorSettings(permutations=599, seed=1)
    assert drift.run(reference(), seen(30, 4), other, rejected=0) != first


def test_the_rule_asks_for_a_retrain_only_on_what_it_names_and_what_is_large():
    moved = drift.run(reference(), seen(60, 9, moved=1), FEW, rejected=0)
    assert drift.wants_retrain(moved, FEW)
    assert not drift.wants_retrain(moved, FEW.model_copy(update={"retrain": False}))
    assert not drift.wants_retrain(moved, FEW.model_copy(update={"least_effect": 0.9}))
    assert not drift.wants_retrain(moved, FEW.model_copy(update={"retrain_on": ("labels",)}))
    broken = drift.run(reference(), seen(60, 9), FEW, rejected=30)
    assert any(t.drifted for t in broken) and not drift.wants_retrain(broken, FEW)


def test_settings_that_could_never_alarm_are_refused():
    with pytest.raises(ValidationError, match="expected 600 or more"):
        MonitorSettings(permutations=100)
    assert MonitorSettings(permutations=599).level == 0.01
