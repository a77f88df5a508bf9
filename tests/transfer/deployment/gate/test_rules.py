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
    predicted = LABELS.copy()
    predicted[shift : shift + wrong_sevens] = 1
    predicted[200 + shift : 200 + shift + wrong_nines] = 0
    return np.where(np.arange(2) == predicted[:, None], confidence, 1 - confidence)


def evidence(
    chosen=None,
    champion=None,
    *,
    state=None,
    gain=(0.05, 0.02, 0.08),
    difference=0.0,
    error="",
    **more,
):
    point, low, high = gain
    return Evidence(
        labels=LABELS,
        chosen=predictions(10, 10) if chosen is None else chosen,
        scratch_gain=Gain(metric="accuracy", point=point, low=low, high=high),
        champion=champion,
        champion_state=state or ("none" if champion is None else "loaded"),
        load_back_difference=difference,
        serving_error=error,
        class_names=NAMES,
        **more,
    )


def outcome(shown, name, **limits):
    rule = TypeAdapter(rules.Rule).validate_python({"rule": name, **limits})
    (result,) = rules.judge([rule], shown)
    assert result.rule == name
    return result


@pytest.mark.parametrize(
    ("point", "high", "margin", "passed"),
    [
        (0.01, 0.03, 0, True),
        (0.0, 0.0, 0, True),
        (-0.01, 0.02, 0.01, True),
        (-0.011, 0.02, 0.01, False),
        (-0.005, -0.001, 0.01, False),
        (float("nan"), 1, 1, False),
    ],
)
def test_not_worse_than_scratch(point, high, margin, passed):
    shown = evidence(gain=(point, -0.05, high))
    assert outcome(shown, "not_worse_than_scratch", margin=margin).passed == passed


def test_not_worse_than_champion_reads_the_interval_and_not_the_point():
    equal = evidence(champion=predictions(10, 10))
    assert outcome(equal, "not_worse_than_champion", margin=0.01).passed
    unsure = evidence(champion=predictions(10, 10, shift=20))
    result = outcome(unsure, "not_worse_than_champion", margin=0.01)
    assert not result.passed
    assert result.found.startswith("+0.0 points accuracy [-3.")
    assert result.expected == "interval from -1.0 points up"
    assert outcome(unsure, "not_worse_than_champion", margin=0.05).passed


def test_not_worse_than_champion_uses_the_metric_of_the_gain():
    chosen, champion = predictions(0, 40), predictions(40, 0)
    keep = np.r_[0:200, 200:250]
    shown = Evidence(
        labels=LABELS[keep],
        chosen=chosen[keep],
        scratch_gain=Gain(metric="balanced_accuracy", point=0, low=0, high=0),
        champion=champion[keep],
        champion_state="loaded",
        load_back_difference=0.0,
    )
    result = outcome(shown, "not_worse_than_champion", margin=0)
    assert result.found.startswith("-30.0 points balanced accuracy")  # recall 0.2 against 0.8, 1


def test_better_than_champion():
    assert outcome(evidence(champion=predictions(40, 10)), "better_than_champion").passed
    assert not outcome(evidence(champion=predictions(11, 10)), "better_than_champion").passed
    assert not outcome(evidence(champion=predictions()), "better_than_champion").passed


def test_class_recall_detects_the_class_that_a_mean_hides():
    shown = evidence(chosen=predictions(0, 40), champion=predictions(50, 0))
    assert outcome(shown, "not_worse_than_champion", margin=0.05).passed
    result = outcome(shown, "class_recall", margin=0.05)
    assert not result.passed
    assert result.found.startswith("lowest for class nine: -20.0 points recall [-2")
    assert result.found.endswith("on 200 items")
    assert outcome(shown, "class_recall", margin=0.2).passed


def test_class_recall_tolerates_noise():
    shown = evidence(chosen=predictions(10, 13), champion=predictions(10, 10))
    assert outcome(shown, "class_recall", margin=0).passed


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("none", "there is no champion yet"),
        ("unloadable", "the champion cannot be loaded, so it cannot be compared"),
        ("same", "the champion is this model itself"),
    ],
)
def test_without_another_champion_to_compare_with(name, state, message):
    result = outcome(evidence(state=state), name)
    assert result.found == message
    assert result.passed == ((name, state) != ("better_than_champion", "same"))


def test_calibrated():
    good = predictions(10, 10, confidence=0.95)
    result = outcome(evidence(good), "calibrated", max_ece=0.01)
    assert result.passed
    assert result.found == "expected calibration error 0.000 on 400 items"
    overconfident = predictions(60, 60, confidence=0.95)
    assert not outcome(evidence(overconfident), "calibrated", max_ece=0.05).passed
    assert outcome(evidence(overconfident), "calibrated", max_ece=0.3).passed


def test_calibrated_allows_the_error_of_few_items():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.6, 0.95, 30)
    few = Evidence(
        labels=(rng.random(30) > confidence).astype(int),
        chosen=np.stack([confidence, 1 - confidence], 1),
        scratch_gain=Gain(metric="accuracy", point=0, low=0, high=0),
        champion=None,
        champion_state="none",
        load_back_difference=None,
    )
    result = outcome(few, "calibrated", max_ece=0.02)
    assert float(result.found.split()[3]) > 0.02
    assert result.passed


@pytest.mark.parametrize(
    ("difference", "passed", "measured"),
    [
        (0.0, True, "probabilities differ by up to 0.0e+00"),
        (1e-6, True, "probabilities differ by up to 1.0e-06"),
        (1e-3, False, "probabilities differ by up to 1.0e-03"),
        (float("nan"), False, "probabilities differ by up to nan"),
        (None, False, "not loaded back"),
    ],
)
def test_loads_back(difference, passed, measured):
    result = outcome(evidence(difference=difference), "loads_back", tolerance=1e-6)
    assert (result.passed, result.found) == (passed, measured)
    assert result.expected == "at most 1.0e-06"


@pytest.mark.parametrize(
    ("error", "passed", "measured"),
    [
        ("", True, "answered"),
        (None, False, "no request made"),
        ("answered 500: no", False, "answered 500"),
    ],
)
def test_servable(error, passed, measured):
    result = outcome(evidence(error=error), "servable")
    assert result.passed == passed
    assert result.found.startswith(measured)


@pytest.mark.parametrize(
    ("rule", "limit", "field", "unit"),
    [
        ("latency", "max_milliseconds", "milliseconds", "ms"),
        ("size", "max_megabytes", "megabytes", "MB"),
    ],
)
def test_latency_and_size(rule, limit, field, unit):
    assert outcome(evidence(**{field: 10.0}), rule, **{limit: 10}).passed
    result = outcome(evidence(**{field: 10.25}), rule, **{limit: 10})
    assert not result.passed
    assert (result.found, result.expected) == (f"10.2 {unit}", f"at most 10 {unit}")
    assert not outcome(evidence(**{field: float("nan")}), rule, **{limit: 10}).passed
    assert outcome(evidence(), rule).found == "not measured"


def test_min_accuracy():
    assert outcome(evidence(), "min_accuracy", value=0.95).passed
    result = outcome(evidence(), "min_accuracy", value=0.96)
    assert not result.passed
    assert (result.found, result.expected) == ("accuracy 0.950 on 400 items", "at least 0.960")


def test_a_good_first_model_passes_the_default_rules():
    decision = rules.promotable(rules.judge(rules.PromoteSettings().rules, evidence()))
    assert decision.promote
    assert len(decision.reasons) == len(rules.PromoteSettings().rules)
    assert "class_recall: found there is no champion yet" in decision.reasons[2]


def test_a_failed_rule_prevents_promotion_and_every_failed_rule_is_reported():
    shown = evidence(gain=(-0.2, -0.5, 0.5), difference=None)
    outcomes = rules.judge(rules.PromoteSettings().rules, shown)
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
    ("rule", "message"),
    [
        ({"rule": "looks_good"}, "'not_worse_than_scratch', 'not_worse_than_champion'"),
        ({"rule": "calibrated", "margin": 0.1}, "margin"),
        ({"rule": "class_recall", "margin": -0.1}, "greater than or equal to 0"),
        ({"margin": 0.1}, "rule"),
    ],
)
def test_invalid_rules_are_refused(rule, message):
    with pytest.raises(ValidationError, match=message):
        rules.PromoteSettings.model_validate({"rules": [rule]})


def test_rules_are_restored_from_plain_data():
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
