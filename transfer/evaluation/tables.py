"""Rows and figures of the report: arms, mixes of arms and classes on the test split.

Shapes: A arms, N items, K classes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from transfer.core.config import Section
from transfer.evaluation import comparison
from transfer.evaluation.report_schema import (
    ArmResult,
    Chosen,
    ClassFigures,
    Gain,
    Oracle,
    Scratch,
    Verdict,
)
from transfer.metrics import classification
from transfer.models import checkpoint, predictor
from transfer.selection import ensemble, model_selection
from transfer.selection.model_selection import ArmFiles, Mix, ModelChoice

Floats = NDArray[np.float64]


class EvaluateSettings(Section):
    """Metrics on the test split, and the confidence level of claims."""

    metric: Literal["accuracy", "balanced_accuracy"] = "accuracy"
    """The metric of the transfer gain."""
    level: float = Field(0.95, gt=0.5, lt=1)
    """Confidence level of every interval."""
    replicates: int = Field(2000, ge=200)
    """Number of bootstrap replicates."""
    bins: int = Field(15, ge=2)
    """Equal-mass bins of the expected calibration error."""
    seed: int = Field(0, ge=0)
    """Random seed of the bootstrap."""


@dataclass(frozen=True)
class TestPredictions:
    """Predictions of every arm on the test split."""

    arms: Sequence[ArmFiles]
    probabilities: Floats
    labels: NDArray[np.int64]
    settings: EvaluateSettings

    def gain(self, weights: Floats, baseline: Floats) -> Gain:
        """Gain of a mix of arms over another mix."""
        return comparison.paired_gain(
            self.probabilities,
            self.labels,
            weights,
            baseline,
            methods=[arm.group for arm in self.arms],
            seeds=[arm.seed for arm in self.arms],
            metric=self.settings.metric,
            level=self.settings.level,
            replicates=self.settings.replicates,
            seed=self.settings.seed,
        )

    def gain_and_verdict(self, weights: Floats, baseline: Floats) -> tuple[Gain, Verdict]:
        """Gain of a mix, and its verdict. For arms that were stopped early, the gain is computed on
        their seeds only and the verdict is none: other seeds are unknown."""
        members = [arm for arm, weight in zip(self.arms, weights, strict=True) if weight > 0]
        if all(arm.finalist for arm in members):
            gain = self.gain(weights, baseline)
            return gain, comparison.verdict(gain)
        seeds = {arm.seed for arm in members}
        rows = np.array([arm.seed in seeds for arm in self.arms])
        kept = [arm for arm in self.arms if arm.seed in seeds]
        same_seeds = TestPredictions(kept, self.probabilities[rows], self.labels, self.settings)
        kept_baseline = baseline[rows]
        gain = same_seeds.gain(weights[rows], kept_baseline / kept_baseline.sum())
        return gain, "none"

    def interval(self, probabilities: Floats) -> tuple[float, float]:
        """Wilson interval of the accuracy of probabilities (N, K)."""
        return _interval(probabilities, self.labels, self.settings)

    def members(self, weights: Floats) -> list[str]:
        """Names of the arms of a mix."""
        return [arm.name for arm, weight in zip(self.arms, weights, strict=True) if weight > 0]


def _interval(
    probabilities: Floats, labels: NDArray[np.int64], settings: EvaluateSettings
) -> tuple[float, float]:
    right = int((probabilities.argmax(1) == labels).sum())
    return comparison.proportion_interval(right, len(labels), level=settings.level)


def _accuracy(tested: TestPredictions, group: str) -> float:
    """Test accuracy of the uniform mix of a group's arms."""
    rows = np.array([arm.group == group for arm in tested.arms])
    return classification.accuracy(tested.probabilities[rows].mean(0), tested.labels)


def oracle_figures(tested: TestPredictions, mixed: Floats) -> Oracle:
    """The method that is best on the test split itself, with all its seeds averaged."""
    groups = dict.fromkeys(arm.group for arm in tested.arms if arm.finalist)
    accuracies = {group: _accuracy(tested, group) for group in groups}
    best = max(accuracies, key=accuracies.__getitem__)
    gap = accuracies[best] - classification.accuracy(mixed, tested.labels)
    return Oracle(group=best, accuracy=accuracies[best], gap=gap)


def baseline_method(tested: TestPredictions, chosen: ModelChoice) -> str:
    """Name of the method of the baseline, against which gains are measured."""
    return tested.arms[int(chosen.baseline.weights.argmax())].method


def baseline_figures(tested: TestPredictions, chosen: ModelChoice) -> Scratch:
    """Figures of the baseline: its uniform ensemble, and the mean of its single arms."""
    weights = chosen.baseline.weights
    mixed = ensemble.combine(tested.probabilities, weights)
    low, high = tested.interval(mixed)
    singles = [classification.accuracy(p, tested.labels) for p in tested.probabilities[weights > 0]]
    return Scratch(
        method=baseline_method(tested, chosen),
        accuracy=classification.accuracy(mixed, tested.labels),
        low=low,
        high=high,
        single_mean=float(np.mean(singles)),
    )


def model_figures(tested: TestPredictions, mix: Mix, mixed: Floats) -> Chosen:
    """All figures of a mix; ``mixed`` are its probabilities (N, K)."""
    labels = tested.labels
    low, high = tested.interval(mixed)
    macro = classification.macro(mixed, labels)
    return Chosen(
        scheme=mix.scheme,
        members=tested.members(mix.weights),
        weights=[float(w) for w in mix.weights if w > 0],
        accuracy=classification.accuracy(mixed, labels),
        low=low,
        high=high,
        balanced_accuracy=classification.balanced_accuracy(mixed, labels),
        macro_precision=macro.precision,
        macro_recall=macro.recall,
        macro_f1=macro.f1,
        log_loss=classification.log_loss(mixed, labels),
        brier=classification.brier(mixed, labels),
        ece=classification.ece(mixed, labels, bins=tested.settings.bins),
    )


def arm_rows(tested: TestPredictions, mix: Mix) -> list[ArmResult]:
    """A row for each arm, with its weight in a mix."""
    validation_rows = _validation(tested)
    rows = []
    for arm, weight, test, accuracy in zip(
        tested.arms, mix.weights, tested.probabilities, validation_rows, strict=True
    ):
        low, high = tested.interval(test)
        rows.append(
            ArmResult(
                method=arm.method,
                group=arm.group,
                seed=arm.seed,
                sources=list(arm.sources),
                uses_source=bool(arm.sources),
                finalist=arm.finalist,
                validation=accuracy[0],
                validation_low=accuracy[1],
                validation_high=accuracy[2],
                test=classification.accuracy(test, tested.labels),
                test_low=low,
                test_high=high,
                steps=arm.steps,
                seconds=0.0,
                temperature=model_selection.temperature(arm.folder),
                parameters=_parameters(arm),
                notes=json.loads((arm.folder / "notes.json").read_text()),
                weight=float(weight),
            )
        )
    return rows


def _parameters(arm: ArmFiles) -> int:
    state = checkpoint.load_state(arm.folder)
    own = predictor.tensor_name(0, 0, "")
    return sum(tensor.numel() for name, tensor in state.items() if name.startswith(own))


def _validation(tested: TestPredictions) -> list[tuple[float | None, float | None, float | None]]:
    """Accuracy of each arm on its validation items, with its interval."""
    if model_selection.is_label_free(tested.arms):
        return [(None, None, None)] * len(tested.arms)
    probabilities, labels = model_selection.validation_probabilities(tested.arms)
    return [
        (classification.accuracy(p, labels), *_interval(p, labels, tested.settings))
        for p in probabilities
    ]


def class_rows(
    mixed: Floats, labels: NDArray[np.int64], class_names: Sequence[str]
) -> list[ClassFigures]:
    """A row for each of the K classes, from the probabilities (N, K) of a mix."""
    figures = classification.per_class(mixed, labels)
    return [
        ClassFigures(
            name=name,
            items=int(figures.support[k]),
            precision=float(figures.precision[k]),
            recall=float(figures.recall[k]),
            f1=float(figures.f1[k]),
        )
        for k, name in enumerate(class_names)
    ]
