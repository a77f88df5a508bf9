"""The honest evaluation: choose on validation, then read the test split once.

Shapes: A arms, N items, K classes.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from transfer import calibrate, checkpoint, choice, compare, ensemble, metrics, predict
from transfer.advise import Advice, agreement
from transfer.arrays import TestItems
from transfer.choice import ArmFiles, Choice, Mix
from transfer.result import (
    ArmResult,
    Chosen,
    ClassFigures,
    Evaluation,
    Foresight,
    Gain,
    Oracle,
    Scratch,
    SourceGain,
    Verdict,
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


@dataclass(frozen=True)
class _Tested:
    """Every arm's answers on the test split."""

    arms: Sequence[ArmFiles]
    probabilities: Floats
    labels: NDArray[np.int64]
    settings: EvaluateSettings

    def gain(self, weights: Floats, baseline: Floats) -> Gain:
        """One mix of arms minus another."""
        return compare.paired_gain(
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

    def worth(self, weights: Floats, baseline: Floats) -> tuple[Gain, Verdict]:
        """Gain of a mix, and its verdict; of arms that were stopped early, on their seeds alone
        and without a verdict: one seed says nothing of the others."""
        members = [arm for arm, weight in zip(self.arms, weights, strict=True) if weight > 0]
        if all(arm.finalist for arm in members):
            gain = self.gain(weights, baseline)
            return gain, compare.verdict(gain)
        seeds = {arm.seed for arm in members}
        rows = np.array([arm.seed in seeds for arm in self.arms])
        some = [arm for arm in self.arms if arm.seed in seeds]
        alone = _Tested(some, self.probabilities[rows], self.labels, self.settings)
        part = baseline[rows]
        return alone.gain(weights[rows], part / part.sum()), "none"

    def interval(self, probabilities: Floats) -> tuple[float, float]:
        """Wilson interval of the accuracy of probabilities (N, K)."""
        return _interval(probabilities, self.labels, self.settings)

    def members(self, weights: Floats) -> list[str]:
        """Names of the arms of a mix."""
        return [arm.name for arm, weight in zip(self.arms, weights, strict=True) if weight > 0]


def evaluate(
    arms: Sequence[ArmFiles],
    chosen: Choice,
    probabilities: Floats,
    labels: NDArray[np.int64],
    *,
    target: str,
    class_names: Sequence[str],
    labels_per_class: int | None,
    validator: str,
    settings: EvaluateSettings,
    advice: Sequence[Advice] = (),
) -> Evaluation:
    """Put every figure of the result together.

    A source that the test shows to hurt is left out: the model is then the one that validation
    chooses among the arms that do without it.

    Args:
        arms: the arms, in the order of ``probabilities``.
        chosen: what validation chose.
        probabilities: (A, N, K) calibrated, on the test split.
        labels: (N,) of the test split.
        target: name of the target.
        class_names: K names.
        labels_per_class: the cap on labels, for the record.
        validator: what chooses where the target has no label.
        settings: metric and intervals.
        advice: what was predicted of the sources.
    """
    tested = _Tested(arms, probabilities, labels, settings)
    baseline = chosen.baseline.weights
    sources = _sources(tested, chosen)
    harmful = [source.name for source in sources if source.verdict == "negative"]
    final = _without_harm(tested, chosen, harmful, validator)
    mixed = ensemble.combine(probabilities, final.weights)
    bound = tested.gain(chosen.source.weights, baseline)
    verdict, seeds = compare.verdict(bound), sorted({arm.seed for arm in arms})
    said = compare.sentence(
        _named(arms, chosen.source.weights),
        bound,
        verdict,
        len(labels),
        len(seeds),
        baseline=_baseline(tested, chosen),
    )
    return Evaluation(
        target=target,
        metric=settings.metric,
        level=settings.level,
        seeds=seeds,
        test_items=len(labels),
        labels_per_class=labels_per_class,
        verdict=verdict,
        sentence=said,
        gain=tested.gain(final.weights, baseline),
        sources=sources,
        foresight=_foresight(tested, sources, advice),
        left_out=[name for name in harmful if _uses(arms, chosen.best.weights, name)],
        scratch=_scratch(tested, chosen),
        chosen=_chosen(tested, final, mixed),
        oracle=_oracle(tested, mixed),
        arms=_arms(tested, final),
        classes=_classes(mixed, labels, class_names),
        confusion=metrics.confusion(mixed, labels).tolist(),
        reliability=metrics.reliability_bins(mixed, labels, bins=settings.bins),
        schemes=chosen.scores,
        collapsed=chosen.collapsed,
    )


def _sources(tested: _Tested, chosen: Choice) -> list[SourceGain]:
    rows = []
    for name, mix in chosen.by_source.items():
        gain, verdict = tested.worth(mix.weights, chosen.baseline.weights)
        other = chosen.without[name]
        rows.append(
            SourceGain(
                name=name,
                gain=gain,
                verdict=verdict,
                members=tested.members(mix.weights),
                adds=tested.gain(chosen.best.weights, other.weights) if other else None,
            )
        )
    return rows


def _foresight(
    tested: _Tested, sources: Sequence[SourceGain], advice: Sequence[Advice]
) -> Foresight:
    rank = {one.name: -one.rank for one in advice}
    firsts = [i for i, arm in enumerate(tested.arms) if arm.seed == tested.arms[0].seed]
    predicted: list[float | None] = [None] * len(firsts)
    if not choice.is_label_free(tested.arms):
        losses = choice.validation_losses([tested.arms[i] for i in firsts])
        predicted = (-losses.mean(1)).tolist()
    return Foresight(
        advice=list(advice),
        sources=agreement([rank.get(s.name) for s in sources], [s.gain.point for s in sources]),
        methods=agreement(
            predicted,
            [metrics.accuracy(tested.probabilities[i], tested.labels) for i in firsts],
        ),
    )


def _accuracy(tested: _Tested, group: str) -> float:
    """Test accuracy of the uniform mix of a group's arms."""
    rows = np.array([arm.group == group for arm in tested.arms])
    return metrics.accuracy(tested.probabilities[rows].mean(0), tested.labels)


def _without_harm(tested: _Tested, chosen: Choice, harmful: Sequence[str], validator: str) -> Mix:
    if not any(_uses(tested.arms, chosen.best.weights, name) for name in harmful):
        return chosen.best
    judge = choice.judge_of(tested.arms, validator)
    return choice.without(tested.arms, harmful, judge) or chosen.baseline


def _baseline(tested: _Tested, chosen: Choice) -> str:
    """Name of the method that gains are measured against."""
    return tested.arms[int(chosen.baseline.weights.argmax())].method


def _uses(arms: Sequence[ArmFiles], weights: Floats, source: str) -> bool:
    return any(w > 0 and arm.uses(source) for arm, w in zip(arms, weights, strict=True))


def _named(arms: Sequence[ArmFiles], weights: Floats) -> str:
    """The sources of a mix, as a person would say them; a name of several words in quotes."""
    used = zip(arms, weights, strict=True)
    names = dict.fromkeys(name for arm, weight in used if weight > 0 for name in arm.sources)
    *others, last = (f"'{name}'" if " " in name else name for name in names)
    return f"{', '.join(others)} and {last}" if others else last


def _oracle(tested: _Tested, mixed: Floats) -> Oracle:
    """The method that is best on the test split itself: all its seeds, uniformly."""
    groups = dict.fromkeys(arm.group for arm in tested.arms if arm.finalist)
    found = {group: _accuracy(tested, group) for group in groups}
    best = max(found, key=found.__getitem__)
    gap = found[best] - metrics.accuracy(mixed, tested.labels)
    return Oracle(group=best, accuracy=found[best], gap=gap)


def _interval(
    probabilities: Floats, labels: NDArray[np.int64], settings: EvaluateSettings
) -> tuple[float, float]:
    right = int((probabilities.argmax(1) == labels).sum())
    return compare.proportion_interval(right, len(labels), level=settings.level)


def _scratch(tested: _Tested, chosen: Choice) -> Scratch:
    weights = chosen.baseline.weights
    mixed = ensemble.combine(tested.probabilities, weights)
    low, high = tested.interval(mixed)
    singles = [metrics.accuracy(p, tested.labels) for p in tested.probabilities[weights > 0]]
    return Scratch(
        method=_baseline(tested, chosen),
        accuracy=metrics.accuracy(mixed, tested.labels),
        low=low,
        high=high,
        single_mean=float(np.mean(singles)),
    )


def _chosen(tested: _Tested, mix: Mix, mixed: Floats) -> Chosen:
    labels = tested.labels
    low, high = tested.interval(mixed)
    macro = metrics.macro(mixed, labels)
    return Chosen(
        scheme=mix.scheme,
        members=tested.members(mix.weights),
        weights=[float(w) for w in mix.weights if w > 0],
        accuracy=metrics.accuracy(mixed, labels),
        low=low,
        high=high,
        balanced_accuracy=metrics.balanced_accuracy(mixed, labels),
        macro_precision=macro.precision,
        macro_recall=macro.recall,
        macro_f1=macro.f1,
        log_loss=metrics.log_loss(mixed, labels),
        brier=metrics.brier(mixed, labels),
        ece=metrics.ece(mixed, labels, bins=tested.settings.bins),
    )


def _arms(tested: _Tested, mix: Mix) -> list[ArmResult]:
    validation = _validation(tested)
    rows = []
    for arm, weight, test, judged in zip(
        tested.arms, mix.weights, tested.probabilities, validation, strict=True
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
                validation=judged[0],
                validation_low=judged[1],
                validation_high=judged[2],
                test=metrics.accuracy(test, tested.labels),
                test_low=low,
                test_high=high,
                steps=arm.steps,
                seconds=0.0,
                temperature=choice.temperature(arm.folder),
                parameters=_parameters(arm),
                notes=json.loads((arm.folder / "notes.json").read_text()),
                weight=float(weight),
            )
        )
    return rows


def _parameters(arm: ArmFiles) -> int:
    state = checkpoint.load_state(arm.folder)
    own = predict.tensor_name(0, 0, "")
    return sum(tensor.numel() for name, tensor in state.items() if name.startswith(own))


def _validation(tested: _Tested) -> list[tuple[float | None, float | None, float | None]]:
    """Accuracy of each arm on the labelled items it was judged on, with its interval."""
    if choice.is_label_free(tested.arms):
        return [(None, None, None)] * len(tested.arms)
    judged, labels = choice.validation_probabilities(tested.arms)
    return [(metrics.accuracy(p, labels), *_interval(p, labels, tested.settings)) for p in judged]


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
