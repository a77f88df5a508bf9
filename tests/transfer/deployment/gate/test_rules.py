import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from transfer.core.errors import CrosstrainError
from transfer.deployment.gate import rules
from transfer.deployment.gate.evidence import Evidence
from transfer.evaluation.report_schema import Gain

NAMES = ("seven", "nine")
LABELS = np.repeat([0, 1], 200)
COMPARING = ["not_worse_than_champion", "better_than_champion", "class_recall"]


def predictions(wrong_sevens=0, wrong_nines=0, confidence=0.95, shift=0):
    """Probabilities (400, 2) with mistakes on the items from ``shift`` of each class on."""
    told = LABELS.copy()
    told[shift : shift + wrong_sevens] = 1
    told[200 + shift : 200 + shift + wrong_nines] = 0
    return np.where(np.arange(2) == told[:, None], confidence, 1 - confidence)


def evidence(
    chosen=None, champion=None, *, state=None, gain=(0.05, 0.02, 0.08), back=0.0, served="", **more
):
    point, low, high = gain
    return Evidence(
        labels=LABELS,
        chosen=predictions(10, 10) if chosen is None else chosen,
        scratch_gain=Gain(metric="accuracy", point=point, low=low, high=high),
        champion=champion,
        champion_state=state or ("none" if champion is None else "loaded"),
        loaded_back=back,
        served=served,
        class_names=NAMES,
        **more,
    )


def outcome(given, name, **limits):
    rule = TypeAdapter(rules.Rule).validate_python({"rule": name, **limits})
    (found,) = rules.judge([rule], given)
    assert found.rule == name
    return found


@pytest.mark.parametrize(
    ("point", "high", "margin", "held"),
    [
        (0.01, 0.03, 0, True),
        (0.0, 0.0, 0, True),
        (-0.01, 0.02, 0.01, True),
        (-0.011, 0.02, 0.01, False),
        (-0.005, -0.001, 0.01, False),
        (float("nan"), 1, 1, False),
    ],
)
def test_not_worse_than_scratch(point, high, margin, held):
    shown = evidence(gain=(point, -0.05, high))
    assert outcome(shown, "not_worse_than_scratch", margin=margin).held == held


def test_not_worse_than_champion_is_shown_by_the_interval_and_not_by_the_point():
    equal = evidence(champion=predictions(10, 10))
    assert outcome(equal, "not_worse_than_champion", margin=0.01).held
    unsure = evidence(champion=predictions(10, 10, shift=20))
    found = outcome(unsure, "not_worse_than_champion", margin=0.01)
    assert not found.held
    assert found.found.startswith("+0.0 points accuracy [-3.")
    assert found.expected == "interval from -1.0 points up"
    assert outcome(unsure, "not_worse_than_champion", margin=0.05).held


def test_not_worse_than_champion_uses_the_metric_of_the_gain():
    chosen, champion = predictions(0, 40), predictions(40, 0)
    keep = np.r_[0:200, 200:250]
    given = Evidence(
        labels=LABELS[keep],
        chosen=chosen[keep],
        scratch_gain=Gain(metric="balanced_accuracy", point=0, low=0, high=0),
        champion=champion[keep],
        champion_state="loaded",
        loaded_back=0.0,
    )
    found = outcome(given, "not_worse_than_champion", margin=0)
    assert found.found.startswith("-30.0 points balanced accuracy")  # recall 0.2 against 0.8, 1


def test_better_than_champion():
    assert outcome(evidence(champion=predictions(40, 10)), "better_than_champion").held
    assert not outcome(evidence(champion=predictions(11, 10)), "better_than_champion").held
    assert not outcome(evidence(champion=predictions()), "better_than_champion").held


def test_class_recall_finds_the_class_that_a_mean_would_hide():
    given = evidence(chosen=predictions(0, 40), champion=predictions(50, 0))
    assert outcome(given, "not_worse_than_champion", margin=0.05).held
    found = outcome(given, "class_recall", margin=0.05)
    assert not found.held
    assert found.found.startswith("lowest for class nine: -20.0 points recall [-2")
    assert found.found.endswith("on 200 items")
    assert outcome(given, "class_recall", margin=0.2).held


def test_class_recall_lets_noise_pass():
    given = evidence(chosen=predictions(10, 13), champion=predictions(10, 10))
    assert outcome(given, "class_recall", margin=0).held


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("none", "there is no champion yet"),
        ("unloadable", "the champion cannot be loaded, so there is nothing to hold it to"),
        ("same", "the champion is this very model"),
    ],
)
def test_without_another_champion_to_compare_with(name, state, told):
    found = outcome(evidence(state=state), name)
    assert found.found == told
    assert found.held == ((name, state) != ("better_than_champion", "same"))


def test_calibrated():
    good = predictions(10, 10, confidence=0.95)
    found = outcome(evidence(good), "calibrated", max_ece=0.01)
    assert found.held
    assert found.found == "expected calibration error 0.000 on 400 items"
    vain = predictions(60, 60, confidence=0.95)
    assert not outcome(evidence(vain), "calibrated", max_ece=0.05).held
    assert outcome(evidence(vain), "calibrated", max_ece=0.3).held


def test_calibrated_does_not_blame_a_model_for_few_items():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.6, 0.95, 30)
    few = Evidence(
        labels=(rng.random(30) > confidence).astype(int),
        chosen=np.stack([confidence, 1 - confidence], 1),
        scratch_gain=Gain(metric="accuracy", point=0, low=0, high=0),
        champion=None,
        champion_state="none",
        loaded_back=None,
    )
    found = outcome(few, "calibrated", max_ece=0.02)
    assert float(found.found.split()[3]) > 0.02
    assert found.held


@pytest.mark.parametrize(
    ("back", "held", "told"),
    [
        (0.0, True, "probabilities differ by up to 0.0e+00"),
        (1e-6, True, "probabilities differ by up to 1.0e-06"),
        (1e-3, False, "probabilities differ by up to 1.0e-03"),
        (float("nan"), False, "probabilities differ by up to nan"),
        (None, False, "not loaded back"),
    ],
)
def test_loads_back(back, held, told):
    found = outcome(evidence(back=back), "loads_back", tolerance=1e-6)
    assert (found.held, found.found) == (held, told)
    assert found.expected == "at most 1.0e-06"


@pytest.mark.parametrize(
    ("served", "held", "told"),
    [
        ("", True, "answered"),
        (None, False, "not asked"),
        ("answered 500: no", False, "answered 500"),
    ],
)
def test_servable(served, held, told):
    found = outcome(evidence(served=served), "servable")
    assert found.held == held
    assert found.found.startswith(told)


@pytest.mark.parametrize(
    ("rule", "limit", "field", "unit"),
    [
        ("latency", "max_milliseconds", "milliseconds", "ms"),
        ("size", "max_megabytes", "megabytes", "MB"),
    ],
)
def test_budgets(rule, limit, field, unit):
    assert outcome(evidence(**{field: 10.0}), rule, **{limit: 10}).held
    found = outcome(evidence(**{field: 10.25}), rule, **{limit: 10})
    assert not found.held
    assert (found.found, found.expected) == (f"10.2 {unit}", f"at most 10 {unit}")
    assert not outcome(evidence(**{field: float("nan")}), rule, **{limit: 10}).held
    assert outcome(evidence(), rule).found == "not measured"


def test_min_accuracy():
    assert outcome(evidence(), "min_accuracy", value=0.95).held
    found = outcome(evidence(), "min_accuracy", value=0.96)
    assert not found.held
    assert (found.found, found.expected) == ("accuracy 0.950 on 400 items", "at least 0.960")


def test_a_good_first_model_passes_the_rules_as_they_are_set():
    decision = rules.promotable(rules.judge(rules.PromoteSettings().rules, evidence()))
    assert decision.promote
    assert len(decision.reasons) == len(rules.PromoteSettings().rules)
    assert "class_recall: found there is no champion yet" in decision.reasons[2]


def test_one_broken_rule_is_enough_and_every_broken_rule_is_told():
    given = evidence(gain=(-0.2, -0.5, 0.5), back=None)
    outcomes = rules.judge(rules.PromoteSettings().rules, given)
    decision = rules.promotable(outcomes)
    assert not decision.promote
    assert [reason.split(":")[0] for reason in decision.reasons] == [
        "not_worse_than_scratch",
        "loads_back",
    ]
    assert len(outcomes) == len(rules.PromoteSettings().rules)


def test_no_rule_promotes_nothing():
    settings = rules.PromoteSettings.model_validate({"rules": []})
    decision = rules.promotable(rules.judge(settings.rules, evidence()))
    assert decision == (False, ["no rule is set; promotion needs at least one"])


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"rule": "looks_good"}, "'not_worse_than_scratch', 'not_worse_than_champion'"),
        ({"rule": "calibrated", "margin": 0.1}, "margin"),
        ({"rule": "class_recall", "margin": -0.1}, "greater than or equal to 0"),
        ({"margin": 0.1}, "rule"),
    ],
)
def test_rules_that_cannot_be_are_refused(rule, told):
    with pytest.raises(ValidationError, match=told):
        rules.PromoteSettings.model_validate({"rules": [rule]})


def test_rules_survive_a_trip_through_plain_data():
    settings = rules.PromoteSettings()
    assert rules.PromoteSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_evidence_that_contradicts_itself_is_refused():
    with pytest.raises(CrosstrainError, match="no predictions of a champion that is 'loaded'"):
        evidence(state="loaded")
    with pytest.raises(CrosstrainError, match="predictions of a champion that is 'none'"):
        evidence(champion=predictions(), state="none")
    with pytest.raises(CrosstrainError, match=r"\(400, 3\) of the champion"):
        evidence(champion=np.full((400, 3), 1 / 3))
    with pytest.raises(CrosstrainError, match="NaN"):
        evidence(chosen=predictions() * np.nan)
