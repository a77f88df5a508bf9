"""Promotion rules, given as data; each is checked on the same evidence.

Rules use the current test split: a champion is measured on it again, never by stored figures.
Margins and limits are fractions, so 0.01 is one percentage point.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from transfer.core.config import Section
from transfer.deployment.gate.evidence import Evidence
from transfer.evaluation import comparison
from transfer.evaluation.report_schema import Gain, RuleOutcome
from transfer.metrics import classification

_NO_COMPARISON = {
    "none": "there is no champion yet",
    "same": "the champion is this model itself",
    "unloadable": "the champion cannot be loaded, so it cannot be compared",
}


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f} points"


class NotWorseThanScratch(Section):
    """Training from scratch is not significantly better, nor measured better by more than a margin.

    Where the target has no label, the baseline is the source's network as it is. This rule is
    weaker than non-inferiority, which a small test split cannot show: there is nothing else to
    compare a target's first champion with.
    """

    rule: Literal["not_worse_than_scratch"] = "not_worse_than_scratch"
    """Name of the rule."""
    margin: float = Field(0.01, ge=0, le=1)
    """Largest tolerated measured loss of the metric."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Passes when the interval reaches 0 and the point estimate is at least -margin."""
        gain = evidence.scratch_gain
        return RuleOutcome(
            rule=self.rule,
            passed=gain.high >= 0 and gain.point >= -self.margin,
            found=f"{comparison.points(gain)} over {comparison.BASELINES[evidence.baseline]}",
            expected=f"at least {_points(-self.margin)}, interval reaching 0",
        )


class NotWorseThanChampion(Section):
    """Non-inferiority to the champion: the paired interval lies above -margin."""

    rule: Literal["not_worse_than_champion"] = "not_worse_than_champion"
    """Name of the rule."""
    margin: float = Field(0.02, ge=0, le=1)
    """Largest tolerated loss of the metric in one promotion; such losses can add up."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Passes when low >= -margin, and where there is no other champion to compare with."""
        passed, measured = True, _NO_COMPARISON.get(evidence.champion_state)
        if measured is None:
            gain = evidence.against_champion()
            passed, measured = (
                gain.low >= -self.margin,
                f"{comparison.points(gain)} over the champion",
            )
        expected = f"interval from {_points(-self.margin)} up"
        return RuleOutcome(rule=self.rule, passed=passed, found=measured, expected=expected)


class BetterThanChampion(Section):
    """Superiority to the champion: the paired interval lies above 0."""

    rule: Literal["better_than_champion"] = "better_than_champion"
    """Name of the rule."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Passes when low > 0 or nothing can be compared; fails when the champion is itself."""
        passed, measured = (
            evidence.champion_state != "same",
            _NO_COMPARISON.get(evidence.champion_state),
        )
        if measured is None:
            gain = evidence.against_champion()
            passed, measured = gain.low > 0, f"{comparison.points(gain)} over the champion"
        return RuleOutcome(
            rule=self.rule, passed=passed, found=measured, expected="interval above 0"
        )


class ClassRecall(Section):
    """No class has a recall significantly lower than the champion's, by more than a margin."""

    rule: Literal["class_recall"] = "class_recall"
    """Name of the rule."""
    margin: float = Field(0.05, ge=0, le=1)
    """Largest tolerated loss of a class's recall."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Fails when the paired interval of a class's recall lies below -margin.

        Each class has an interval of its own at the level of the evidence, so of many classes
        that are exactly at the margin some fail by chance. Passes where there is no other champion
        to compare with.
        """
        passed, measured = True, _NO_COMPARISON.get(evidence.champion_state)
        if measured is None:
            name, items, change = _worst_recall(evidence)
            passed = change.high >= -self.margin
            measured = f"lowest for class {name}: {comparison.points(change)} on {items} items"
        expected = f"no class with its interval below {_points(-self.margin)}"
        return RuleOutcome(rule=self.rule, passed=passed, found=measured, expected=expected)


def _worst_recall(evidence: Evidence) -> tuple[str, int, Gain]:
    changes = []
    for label in np.unique(evidence.labels):
        own = evidence.labels == label
        name = evidence.class_names[label] if evidence.class_names else str(label)
        change = evidence.against_champion(own).model_copy(update={"metric": "recall"})
        changes.append((name, int(own.sum()), change))
    return min(changes, key=lambda change: change[2].high)


class Calibrated(Section):
    """The challenger's probabilities are calibrated."""

    rule: Literal["calibrated"] = "calibrated"
    """Name of the rule."""
    max_ece: float = Field(0.05, ge=0, le=1)
    """Largest expected calibration error."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Passes when the error is at most ``max_ece``, or at most the error expected by chance.

        Chance: the error of a perfectly calibrated model at the level of the evidence
        (`transfer.metrics.classification.ece_by_chance`).
        """
        error = classification.ece(evidence.chosen, evidence.labels, bins=evidence.bins)
        chance = classification.ece_by_chance(
            evidence.chosen, level=evidence.level, bins=evidence.bins
        )
        return RuleOutcome(
            rule=self.rule,
            passed=error <= max(self.max_ece, chance),
            found=f"expected calibration error {error:.3f} on {len(evidence.labels)} items",
            expected=f"at most {self.max_ece:.3f}, or {chance:.3f}, which chance alone can give",
        )


class LoadsBack(Section):
    """The registered model, loaded back, gives the probabilities that were evaluated."""

    rule: Literal["loads_back"] = "loads_back"
    """Name of the rule."""
    tolerance: float = Field(1e-5, ge=0, le=1)
    """Largest absolute difference of a probability."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Passes when it was loaded back and differs by at most the tolerance."""
        difference = evidence.load_back_difference
        return RuleOutcome(
            rule=self.rule,
            passed=difference is not None and difference <= self.tolerance,
            found="not loaded back"
            if difference is None
            else f"probabilities differ by up to {difference:.1e}",
            expected=f"at most {self.tolerance:.1e}",
        )


class Servable(Section):
    """The registered model answers a real request in a new process."""

    rule: Literal["servable"] = "servable"
    """Name of the rule."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Passes when a request was made and answered."""
        return RuleOutcome(
            rule=self.rule,
            passed=evidence.serving_error == "",
            found={None: "no request made", "": "answered"}.get(
                evidence.serving_error, evidence.serving_error or ""
            ),
            expected="an answer to a request in a new process",
        )


class Latency(Section):
    """The registered model answers fast enough, on the machine that checks the rule."""

    rule: Literal["latency"] = "latency"
    """Name of the rule."""
    max_milliseconds: float = Field(100.0, gt=0)
    """Longest median time of a request for one item."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Passes when the median was measured and is at most the limit."""
        return _at_most(self.rule, evidence.milliseconds, self.max_milliseconds, "ms")


class Size(Section):
    """The model's files are small enough."""

    rule: Literal["size"] = "size"
    """Name of the rule."""
    max_megabytes: float = Field(100.0, gt=0)
    """Largest size, 10^6 bytes."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Passes when the size is known and at most the limit."""
        return _at_most(self.rule, evidence.megabytes, self.max_megabytes, "MB")


def _at_most(rule: str, measured: float | None, limit: float, unit: str) -> RuleOutcome:
    return RuleOutcome(
        rule=rule,
        passed=measured is not None and measured <= limit,
        found="not measured" if measured is None else f"{measured:.1f} {unit}",
        expected=f"at most {limit:g} {unit}",
    )


class MinAccuracy(Section):
    """The challenger's accuracy reaches a fixed value."""

    rule: Literal["min_accuracy"] = "min_accuracy"
    """Name of the rule."""
    value: float = Field(0.5, ge=0, le=1)
    """Lowest accuracy on the test split."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Passes when the measured accuracy, not the low end of its interval, reaches the value."""
        accuracy = classification.accuracy(evidence.chosen, evidence.labels)
        return RuleOutcome(
            rule=self.rule,
            passed=accuracy >= self.value,
            found=f"accuracy {accuracy:.3f} on {len(evidence.labels)} items",
            expected=f"at least {self.value:.3f}",
        )


Rule = Annotated[
    NotWorseThanScratch
    | NotWorseThanChampion
    | BetterThanChampion
    | ClassRecall
    | Calibrated
    | LoadsBack
    | Servable
    | Latency
    | Size
    | MinAccuracy,
    Field(discriminator="rule"),
]


class PromoteSettings(Section):
    """Conditions under which a newly trained model becomes the champion."""

    rules: tuple[Rule, ...] = (
        NotWorseThanScratch(),
        NotWorseThanChampion(),
        ClassRecall(),
        Calibrated(),
        LoadsBack(),
        Servable(),
    )
    """All rules must pass. Without any rule, no model is ever promoted."""
    approval: bool = False
    """When every rule passes, wait for a person to approve in Prefect's UI."""
    approval_hours: float = Field(24.0, gt=0, le=24 * 30)
    """Hours to wait for approval; after that the champion stays."""


class Decision(NamedTuple):
    """Whether to promote, and the reasons, one per line."""

    promote: bool
    reasons: list[str]


def judge(rules: Sequence[Rule], evidence: Evidence) -> list[RuleOutcome]:
    """Check every rule, also after one has failed."""
    return [rule.judge(evidence) for rule in rules]


def promotable(outcomes: Sequence[RuleOutcome]) -> Decision:
    """Promote when there is at least one rule and every rule passed."""
    if not outcomes:
        return Decision(False, ["no rule is set; promotion needs at least one"])
    failed = [outcome for outcome in outcomes if not outcome.passed]
    reasons = [
        f"{outcome.rule}: found {outcome.found}; expected {outcome.expected}"
        for outcome in failed or outcomes
    ]
    return Decision(not failed, reasons)
