"""May a challenger become the champion? Rules as data, each judged on the same evidence.

Rules speak of the current test split: a champion is measured on it anew, never by old figures.
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

_NO_CONTEST = {
    "none": "there is no champion yet",
    "same": "the champion is this very model",
    "unloadable": "the champion cannot be loaded, so there is nothing to hold it to",
}


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f} points"


class NotWorseThanScratch(Section):
    """Training from scratch is not shown to be better, nor measured better by more than a margin.

    Where the target has no label, the source's network as it is stands for training from scratch.
    Milder than non-inferiority, which no small test split could show: a target's first champion
    has nothing else to be compared with.
    """

    rule: Literal["not_worse_than_scratch"] = "not_worse_than_scratch"
    """Name of the rule."""
    margin: float = Field(0.01, ge=0, le=1)
    """Measured loss of the metric that would not matter."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Hold when the interval reaches 0 and the point estimate is at least -margin."""
        gain = evidence.scratch_gain
        return RuleOutcome(
            rule=self.rule,
            held=gain.high >= 0 and gain.point >= -self.margin,
            found=f"{comparison.points(gain)} over {comparison.BASELINES[evidence.baseline]}",
            expected=f"at least {_points(-self.margin)}, interval reaching 0",
        )


class NotWorseThanChampion(Section):
    """Non-inferiority to the champion: the paired interval lies above -margin."""

    rule: Literal["not_worse_than_champion"] = "not_worse_than_champion"
    """Name of the rule."""
    margin: float = Field(0.02, ge=0, le=1)
    """Loss of the metric that would not matter in one promotion; such losses can add up."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Hold when low >= -margin, and where there is no other champion to compare with."""
        held, found = True, _NO_CONTEST.get(evidence.champion_state)
        if found is None:
            gain = evidence.against_champion()
            held, found = gain.low >= -self.margin, f"{comparison.points(gain)} over the champion"
        expected = f"interval from {_points(-self.margin)} up"
        return RuleOutcome(rule=self.rule, held=held, found=found, expected=expected)


class BetterThanChampion(Section):
    """Superiority to the champion: the paired interval lies above 0."""

    rule: Literal["better_than_champion"] = "better_than_champion"
    """Name of the rule."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Hold when low > 0, and where no champion can be compared with; not against itself."""
        held, found = evidence.champion_state != "same", _NO_CONTEST.get(evidence.champion_state)
        if found is None:
            gain = evidence.against_champion()
            held, found = gain.low > 0, f"{comparison.points(gain)} over the champion"
        return RuleOutcome(rule=self.rule, held=held, found=found, expected="interval above 0")


class ClassRecall(Section):
    """No class is recognised worse than by the champion, by more than a margin beyond noise."""

    rule: Literal["class_recall"] = "class_recall"
    """Name of the rule."""
    margin: float = Field(0.05, ge=0, le=1)
    """Loss of a class's recall that would not matter."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Fail when the paired interval of a class's recall lies below -margin.

        Each class has an interval of its own at the level of the evidence, so of many classes
        that are exactly at the margin some fail by chance. Where there is no other champion to
        compare with, it holds.
        """
        held, found = True, _NO_CONTEST.get(evidence.champion_state)
        if found is None:
            name, items, change = _worst_recall(evidence)
            held = change.high >= -self.margin
            found = f"lowest for class {name}: {comparison.points(change)} on {items} items"
        expected = f"no class with its interval below {_points(-self.margin)}"
        return RuleOutcome(rule=self.rule, held=held, found=found, expected=expected)


def _worst_recall(evidence: Evidence) -> tuple[str, int, Gain]:
    changes = []
    for label in np.unique(evidence.labels):
        own = evidence.labels == label
        name = evidence.class_names[label] if evidence.class_names else str(label)
        change = evidence.against_champion(own).model_copy(update={"metric": "recall"})
        changes.append((name, int(own.sum()), change))
    return min(changes, key=lambda change: change[2].high)


class Calibrated(Section):
    """The challenger's confidence can be believed."""

    rule: Literal["calibrated"] = "calibrated"
    """Name of the rule."""
    max_ece: float = Field(0.05, ge=0, le=1)
    """Largest expected calibration error."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Hold when the error is at most ``max_ece``, or what chance alone gives on so few items.

        Chance: the error of a perfectly calibrated model at the level of the evidence
        (`transfer.metrics.classification.ece_by_chance`).
        """
        error = classification.ece(evidence.chosen, evidence.labels, bins=evidence.bins)
        chance = classification.ece_by_chance(
            evidence.chosen, level=evidence.level, bins=evidence.bins
        )
        return RuleOutcome(
            rule=self.rule,
            held=error <= max(self.max_ece, chance),
            found=f"expected calibration error {error:.3f} on {len(evidence.labels)} items",
            expected=f"at most {self.max_ece:.3f}, or {chance:.3f} that chance alone can give",
        )


class LoadsBack(Section):
    """The registered model, loaded back, gives the probabilities that were evaluated."""

    rule: Literal["loads_back"] = "loads_back"
    """Name of the rule."""
    tolerance: float = Field(1e-5, ge=0, le=1)
    """Largest absolute difference of a probability."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Hold when it was loaded back and differs by at most the tolerance."""
        off = evidence.loaded_back
        return RuleOutcome(
            rule=self.rule,
            held=off is not None and off <= self.tolerance,
            found="not loaded back" if off is None else f"probabilities differ by up to {off:.1e}",
            expected=f"at most {self.tolerance:.1e}",
        )


class Servable(Section):
    """The registered model answers a real request in a fresh process."""

    rule: Literal["servable"] = "servable"
    """Name of the rule."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Hold when it was asked and answered."""
        return RuleOutcome(
            rule=self.rule,
            held=evidence.served == "",
            found={None: "not asked", "": "answered"}.get(evidence.served, evidence.served or ""),
            expected="an answer to a request in a fresh process",
        )


class Latency(Section):
    """The registered model answers fast enough, on the machine that judges it."""

    rule: Literal["latency"] = "latency"
    """Name of the rule."""
    max_milliseconds: float = Field(100.0, gt=0)
    """Longest median time of a request for one item."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Hold when the median was measured and is at most the limit."""
        return _budget(self.rule, evidence.milliseconds, self.max_milliseconds, "ms")


class Size(Section):
    """The model's files are small enough."""

    rule: Literal["size"] = "size"
    """Name of the rule."""
    max_megabytes: float = Field(100.0, gt=0)
    """Largest size, 10^6 bytes."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Hold when the size is known and at most the limit."""
        return _budget(self.rule, evidence.megabytes, self.max_megabytes, "MB")


def _budget(rule: str, found: float | None, limit: float, unit: str) -> RuleOutcome:
    return RuleOutcome(
        rule=rule,
        held=found is not None and found <= limit,
        found="not measured" if found is None else f"{found:.1f} {unit}",
        expected=f"at most {limit:g} {unit}",
    )


class MinAccuracy(Section):
    """The challenger's accuracy reaches a fixed value."""

    rule: Literal["min_accuracy"] = "min_accuracy"
    """Name of the rule."""
    value: float = Field(0.5, ge=0, le=1)
    """Lowest accuracy on the test split."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Hold when the measured accuracy, not the low end of its interval, reaches the value."""
        found = classification.accuracy(evidence.chosen, evidence.labels)
        return RuleOutcome(
            rule=self.rule,
            held=found >= self.value,
            found=f"accuracy {found:.3f} on {len(evidence.labels)} items",
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
    """When a newly trained model becomes the champion."""

    rules: tuple[Rule, ...] = (
        NotWorseThanScratch(),
        NotWorseThanChampion(),
        ClassRecall(),
        Calibrated(),
        LoadsBack(),
        Servable(),
    )
    """All must hold. With no rule nothing is ever promoted."""
    approval: bool = False
    """When every rule holds, wait for a person to agree in Prefect's UI."""
    approval_hours: float = Field(24.0, gt=0, le=24 * 30)
    """How long to wait; after that the champion stays."""


class Decision(NamedTuple):
    """Whether to promote, and why or why not, a line a reason."""

    promote: bool
    reasons: list[str]


def judge(rules: Sequence[Rule], evidence: Evidence) -> list[RuleOutcome]:
    """Judge every rule, also after one has failed."""
    return [rule.judge(evidence) for rule in rules]


def promotable(outcomes: Sequence[RuleOutcome]) -> Decision:
    """Promote when there is a rule and every rule held."""
    if not outcomes:
        return Decision(False, ["no rule is set; promotion needs at least one"])
    failed = [o for o in outcomes if not o.held]
    reasons = [f"{o.rule}: found {o.found}; expected {o.expected}" for o in failed or outcomes]
    return Decision(not failed, reasons)
