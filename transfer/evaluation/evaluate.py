"""Unbiased evaluation: models are chosen on validation, then the test split is read once.

Shapes: A arms, N items, K classes.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from transfer.data.items import TestItems
from transfer.evaluation import comparison, tables
from transfer.evaluation.report_schema import Evaluation, Foresight, SourceGain
from transfer.evaluation.tables import EvaluateSettings, TestPredictions
from transfer.metrics import calibration, classification
from transfer.models import predictor
from transfer.selection import ensemble, model_selection
from transfer.selection.model_selection import ArmFiles, Mix, ModelChoice
from transfer.transferability.advisor import Advice, rank_correlation

Floats = NDArray[np.float64]


def test_probabilities(arms: Sequence[ArmFiles], items: TestItems, at_once: int = 1) -> Floats:
    """Calibrated test probabilities (A, N, K) of arms, computed by ``at_once`` threads."""
    threads = max(1, torch.get_num_threads() // at_once)
    with ThreadPoolExecutor(
        at_once, initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        return np.stack(list(pool.map(lambda arm: _test_probabilities(arm, items), arms)))


def _test_probabilities(arm: ArmFiles, items: TestItems) -> Floats:
    model = predictor.load(arm.folder)
    scores = model.member_logits(items.records)[0].numpy()
    return calibration.softmax(scores / model.card.members[0].temperature)


def evaluate(
    arms: Sequence[ArmFiles],
    chosen: ModelChoice,
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
    """Compute all figures of the result.

    A source with a negative verdict on the test split is left out: the model is then the best, on
    validation, among the arms that do not use it. A backbone that was trained on several datasets
    is a source of its own, and is left out only for its own negative verdict.

    Args:
        arms: the arms, in the order of ``probabilities``.
        chosen: what validation chose.
        probabilities: (A, N, K) calibrated, on the test split.
        labels: (N,) of the test split.
        target: name of the target.
        class_names: K names.
        labels_per_class: the limit on labels, stored in the result.
        validator: label-free validator, used where the target has no label.
        settings: metric and intervals.
        advice: the advisor's ranking of the sources.
    """
    tested = TestPredictions(arms, probabilities, labels, settings)
    baseline = chosen.baseline.weights
    sources = _sources(tested, chosen)
    harmful = [source.name for source in sources if source.verdict == "negative"]
    model = _model_without(tested, chosen, harmful, validator)
    mixed = ensemble.combine(probabilities, model.weights)
    transfer_gain = tested.gain(chosen.source.weights, baseline)
    verdict, seeds = comparison.verdict(transfer_gain), sorted({arm.seed for arm in arms})
    sentence = comparison.sentence(
        _source_phrase(arms, chosen.source.weights),
        transfer_gain,
        verdict,
        len(labels),
        len(seeds),
        baseline=tables.baseline_method(tested, chosen),
    )
    return Evaluation(
        target=target,
        metric=settings.metric,
        level=settings.level,
        seeds=seeds,
        test_items=len(labels),
        labels_per_class=labels_per_class,
        verdict=verdict,
        sentence=sentence,
        gain=tested.gain(model.weights, baseline),
        sources=sources,
        foresight=_foresight(tested, sources, advice),
        left_out=[name for name in harmful if _uses(arms, chosen.best.weights, name)],
        scratch=tables.baseline_figures(tested, chosen),
        chosen=tables.model_figures(tested, model, mixed),
        oracle=tables.oracle_figures(tested, mixed),
        arms=tables.arm_rows(tested, model),
        classes=tables.class_rows(mixed, labels, class_names),
        confusion=classification.confusion(mixed, labels).tolist(),
        reliability=classification.reliability_bins(mixed, labels, bins=settings.bins),
        schemes=chosen.scores,
        collapsed=chosen.collapsed,
    )


def _sources(tested: TestPredictions, chosen: ModelChoice) -> list[SourceGain]:
    source_gains = []
    for name, mix in chosen.by_source.items():
        gain, verdict = tested.gain_and_verdict(mix.weights, chosen.baseline.weights)
        other = chosen.without[name]
        source_gains.append(
            SourceGain(
                name=name,
                gain=gain,
                verdict=verdict,
                members=tested.members(mix.weights),
                adds=tested.gain(chosen.best.weights, other.weights) if other else None,
            )
        )
    return source_gains


def _foresight(
    tested: TestPredictions, sources: Sequence[SourceGain], advice: Sequence[Advice]
) -> Foresight:
    rank = {item.name: -item.rank for item in advice}
    first_seed_rows = [i for i, arm in enumerate(tested.arms) if arm.seed == tested.arms[0].seed]
    predicted: list[float | None] = [None] * len(first_seed_rows)
    if not model_selection.is_label_free(tested.arms):
        losses = model_selection.validation_losses([tested.arms[i] for i in first_seed_rows])
        predicted = (-losses.mean(1)).tolist()
    return Foresight(
        advice=list(advice),
        sources=rank_correlation(
            [rank.get(s.name) for s in sources], [s.gain.point for s in sources]
        ),
        methods=rank_correlation(
            predicted,
            [
                classification.accuracy(tested.probabilities[i], tested.labels)
                for i in first_seed_rows
            ],
        ),
    )


def _model_without(
    tested: TestPredictions, chosen: ModelChoice, harmful: Sequence[str], validator: str
) -> Mix:
    if not any(_uses(tested.arms, chosen.best.weights, name) for name in harmful):
        return chosen.best
    allowed = [not set(harmful) & set(arm.sources) for arm in tested.arms]
    return (
        model_selection.choose_among(allowed, model_selection.chooser_for(tested.arms, validator))
        or chosen.baseline
    )


def _uses(arms: Sequence[ArmFiles], weights: Floats, source: str) -> bool:
    return any(w > 0 and source in arm.sources for arm, w in zip(arms, weights, strict=True))


def _source_phrase(arms: Sequence[ArmFiles], weights: Floats) -> str:
    """The sources of a mix as a phrase; a name of several words is quoted."""
    used = zip(arms, weights, strict=True)
    names = dict.fromkeys(name for arm, weight in used if weight > 0 for name in arm.sources)
    *others, last = (f"'{name}'" if " " in name else name for name in names)
    return f"{', '.join(others)} and {last}" if others else last
