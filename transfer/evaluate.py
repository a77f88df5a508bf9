"""The honest evaluation: choose on validation, then read the test split once.

Shapes: A arms, N items, K classes.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from transfer import calibrate, checkpoint, compare, ensemble, metrics, predict, registry
from transfer import methods as method_files
from transfer.arrays import TestItems
from transfer.errors import CrosstrainError
from transfer.predict import Card
from transfer.result import (
    ArmResult,
    Chosen,
    ClassFigures,
    Evaluation,
    Gain,
    Scratch,
    SourceGain,
)
from transfer.section import Section

Floats = NDArray[np.float64]


class EvaluateSettings(Section):
    """What is measured on the test split, and how sure a claim must be."""

    metric: Literal["accuracy", "balanced_accuracy"] = "accuracy"
    """The metric of the transfer gain."""
    level: float = Field(0.95, gt=0.5, lt=1)
    """Confidence level of every interval."""
    replicates: int = Field(2000, ge=200)
    """Bootstrap replicates."""
    bins: int = Field(15, ge=2)
    """Equal-mass bins of the expected calibration error."""
    seed: int = Field(0, ge=0)
    """Of the bootstrap."""


@dataclass(frozen=True)
class ArmFiles:
    """One arm as it is stored."""

    method: str
    seed: int
    folder: Path
    steps: int
    seconds: float

    @property
    def name(self) -> str:
        """``method/seed``."""
        return f"{self.method}/{self.seed}"

    @property
    def uses_source(self) -> bool:
        """Whether its method takes anything from the source."""
        uses: bool = registry.load(method_files, self.method).METHOD.uses_source
        return uses


@dataclass(frozen=True)
class Choice:
    """What validation says: the weights (A,) of the chosen model and of the best source model."""

    scheme: str
    weights: Floats
    scores: dict[str, float]
    source_scheme: str
    source_weights: Floats


def validation_probabilities(arms: Sequence[ArmFiles]) -> tuple[Floats, NDArray[np.int64]]:
    """Calibrated validation probabilities (A, N, K) of arms, and the labels (N,).

    Raises:
        CrosstrainError: the arms were not judged on the same items.
    """
    probabilities, items = [], None
    for arm in arms:
        with np.load(arm.folder / "oof.npz", allow_pickle=False) as stored:
            logits, labels, ids = stored["logits"], stored["labels"], stored["ids"]
        if items is not None and not np.array_equal(ids, items[0]):
            raise CrosstrainError(f"arm {arm.name} was judged on other items than the first arm")
        items = (ids, labels)
        probabilities.append(calibrate.softmax(logits / _temperature(arm.folder)))
    assert items is not None
    return np.stack(probabilities), items[1]


def _temperature(folder: Path) -> float:
    return checkpoint.load_card(folder, Card).members[0].temperature


def choose(arms: Sequence[ArmFiles]) -> Choice:
    """Choose the model among all arms, and the best among those that use the source."""
    probabilities, labels = validation_probabilities(arms)
    names = [arm.method for arm in arms]
    free = ensemble.choose(probabilities, labels, names)
    source = np.array([arm.uses_source for arm in arms])
    bound = ensemble.choose(
        probabilities[source], labels, [n for n, s in zip(names, source, strict=True) if s]
    )
    source_weights = np.zeros(len(arms))
    source_weights[source] = bound.weights
    return Choice(free.scheme, free.weights, free.scores, bound.scheme, source_weights)


def test_probabilities(arms: Sequence[ArmFiles], items: TestItems, at_once: int = 1) -> Floats:
    """Calibrated test probabilities (A, N, K) of arms, read by ``at_once`` threads."""
    threads = max(1, torch.get_num_threads() // at_once)
    with ThreadPoolExecutor(
        at_once, initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        return np.stack(list(pool.map(lambda arm: _test_probabilities(arm, items), arms)))


def _test_probabilities(arm: ArmFiles, items: TestItems) -> Floats:
    model = predict.load(arm.folder)
    scores = model.member_logits(items.images)[0].numpy()
    return calibrate.softmax(scores / model.card.members[0].temperature)


def evaluate(
    arms: Sequence[ArmFiles],
    choice: Choice,
    probabilities: Floats,
    labels: NDArray[np.int64],
    *,
    source: str,
    target: str,
    class_names: Sequence[str],
    labels_per_class: int | None,
    settings: EvaluateSettings,
) -> Evaluation:
    """Put every figure of the result together.

    Args:
        arms: the arms, in the order of ``probabilities``.
        choice: what validation chose.
        probabilities: (A, N, K) calibrated, on the test split.
        labels: (N,) of the test split.
        source: name of the source.
        target: name of the target.
        class_names: K names.
        labels_per_class: the cap on labels, for the record.
        settings: metric and intervals.
    """
    scratch = np.array([arm.method == "scratch" for arm in arms], float)
    scratch /= scratch.sum()
    gain = _gain(arms, probabilities, labels, choice.weights, scratch, settings)
    source_gain = _gain(arms, probabilities, labels, choice.source_weights, scratch, settings)
    seeds = sorted({arm.seed for arm in arms})
    verdict = compare.verdict(source_gain)
    mixed = ensemble.combine(probabilities, choice.weights)
    return Evaluation(
        target=target,
        metric=settings.metric,
        level=settings.level,
        seeds=seeds,
        test_items=len(labels),
        labels_per_class=labels_per_class,
        verdict=verdict,
        sentence=compare.sentence(source, source_gain, verdict, len(labels), len(seeds)),
        gain=gain,
        sources=[
            SourceGain(
                name=source,
                gain=source_gain,
                verdict=verdict,
                members=_members(arms, choice.source_weights),
            )
        ],
        scratch=_scratch(probabilities, labels, scratch, settings),
        chosen=_chosen(arms, choice, mixed, labels, settings),
        arms=_arms(arms, choice, probabilities, labels, settings),
        classes=_classes(mixed, labels, class_names),
        confusion=metrics.confusion(mixed, labels).tolist(),
        reliability=metrics.reliability_bins(mixed, labels, bins=settings.bins),
        schemes=choice.scores,
    )


def _members(arms: Sequence[ArmFiles], weights: Floats) -> list[str]:
    return [arm.name for arm, weight in zip(arms, weights, strict=True) if weight > 0]


def _gain(
    arms: Sequence[ArmFiles],
    probabilities: Floats,
    labels: NDArray[np.int64],
    weights: Floats,
    scratch: Floats,
    settings: EvaluateSettings,
) -> Gain:
    return compare.paired_gain(
        probabilities,
        labels,
        weights,
        scratch,
        methods=[arm.method for arm in arms],
        seeds=[arm.seed for arm in arms],
        metric=settings.metric,
        level=settings.level,
        replicates=settings.replicates,
        seed=settings.seed,
    )


def _interval(
    probabilities: Floats, labels: NDArray[np.int64], settings: EvaluateSettings
) -> tuple[float, float]:
    right = int((probabilities.argmax(1) == labels).sum())
    return compare.proportion_interval(right, len(labels), level=settings.level)


def _scratch(
    probabilities: Floats,
    labels: NDArray[np.int64],
    weights: Floats,
    settings: EvaluateSettings,
) -> Scratch:
    mixed = ensemble.combine(probabilities, weights)
    low, high = _interval(mixed, labels, settings)
    singles = [metrics.accuracy(p, labels) for p in probabilities[weights > 0]]
    return Scratch(
        accuracy=metrics.accuracy(mixed, labels),
        low=low,
        high=high,
        single_mean=float(np.mean(singles)),
    )


def _chosen(
    arms: Sequence[ArmFiles],
    choice: Choice,
    mixed: Floats,
    labels: NDArray[np.int64],
    settings: EvaluateSettings,
) -> Chosen:
    low, high = _interval(mixed, labels, settings)
    macro = metrics.macro(mixed, labels)
    return Chosen(
        scheme=choice.scheme,
        members=_members(arms, choice.weights),
        weights=[float(w) for w in choice.weights if w > 0],
        accuracy=metrics.accuracy(mixed, labels),
        low=low,
        high=high,
        balanced_accuracy=metrics.balanced_accuracy(mixed, labels),
        macro_precision=macro.precision,
        macro_recall=macro.recall,
        macro_f1=macro.f1,
        log_loss=metrics.log_loss(mixed, labels),
        brier=metrics.brier(mixed, labels),
        ece=metrics.ece(mixed, labels, bins=settings.bins),
    )


def _arms(
    arms: Sequence[ArmFiles],
    choice: Choice,
    probabilities: Floats,
    labels: NDArray[np.int64],
    settings: EvaluateSettings,
) -> list[ArmResult]:
    judged, judged_labels = validation_probabilities(arms)
    rows = []
    for arm, weight, test, validation in zip(
        arms, choice.weights, probabilities, judged, strict=True
    ):
        validation_low, validation_high = _interval(validation, judged_labels, settings)
        low, high = _interval(test, labels, settings)
        rows.append(
            ArmResult(
                method=arm.method,
                seed=arm.seed,
                uses_source=arm.uses_source,
                validation=metrics.accuracy(validation, judged_labels),
                validation_low=validation_low,
                validation_high=validation_high,
                test=metrics.accuracy(test, labels),
                test_low=low,
                test_high=high,
                steps=arm.steps,
                seconds=arm.seconds,
                temperature=_temperature(arm.folder),
                weight=float(weight),
            )
        )
    return rows


def _classes(
    mixed: Floats, labels: NDArray[np.int64], class_names: Sequence[str]
) -> list[ClassFigures]:
    figures = metrics.per_class(mixed, labels)
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
