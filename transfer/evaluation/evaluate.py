"""The honest evaluation: choose on validation, then read the test split once.

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
from transfer.evaluation.tables import EvaluateSettings, Tested
from transfer.metrics import calibration, classification
from transfer.models import predictor
from transfer.selection import ensemble, model_selection
from transfer.selection.model_selection import ArmFiles, Choice, Mix
from transfer.transferability.advisor import Advice, agreement

Floats = NDArray[np.float64]


def test_probabilities(arms: Sequence[ArmFiles], items: TestItems, at_once: int = 1) -> Floats:
    """Calibrated test probabilities (A, N, K) of arms, read by ``at_once`` threads."""
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
    chooses among the arms that do without it. A body that was trained on several datasets is a
    source of its own, and is left out for its own harm alone.

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
    tested = Tested(arms, probabilities, labels, settings)
    baseline = chosen.baseline.weights
    sources = _sources(tested, chosen)
    harmful = [source.name for source in sources if source.verdict == "negative"]
    final = _without_harm(tested, chosen, harmful, validator)
    mixed = ensemble.combine(probabilities, final.weights)
    bound = tested.gain(chosen.source.weights, baseline)
    verdict, seeds = comparison.verdict(bound), sorted({arm.seed for arm in arms})
    said = comparison.sentence(
        _named(arms, chosen.source.weights),
        bound,
        verdict,
        len(labels),
        len(seeds),
        baseline=tables.baseline(tested, chosen),
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
        scratch=tables.of_scratch(tested, chosen),
        chosen=tables.of_chosen(tested, final, mixed),
        oracle=tables.of_oracle(tested, mixed),
        arms=tables.of_arms(tested, final),
        classes=tables.of_classes(mixed, labels, class_names),
        confusion=classification.confusion(mixed, labels).tolist(),
        reliability=classification.reliability_bins(mixed, labels, bins=settings.bins),
        schemes=chosen.scores,
        collapsed=chosen.collapsed,
    )


def _sources(tested: Tested, chosen: Choice) -> list[SourceGain]:
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
    tested: Tested, sources: Sequence[SourceGain], advice: Sequence[Advice]
) -> Foresight:
    rank = {one.name: -one.rank for one in advice}
    firsts = [i for i, arm in enumerate(tested.arms) if arm.seed == tested.arms[0].seed]
    predicted: list[float | None] = [None] * len(firsts)
    if not model_selection.is_label_free(tested.arms):
        losses = model_selection.validation_losses([tested.arms[i] for i in firsts])
        predicted = (-losses.mean(1)).tolist()
    return Foresight(
        advice=list(advice),
        sources=agreement([rank.get(s.name) for s in sources], [s.gain.point for s in sources]),
        methods=agreement(
            predicted,
            [classification.accuracy(tested.probabilities[i], tested.labels) for i in firsts],
        ),
    )


def _without_harm(tested: Tested, chosen: Choice, harmful: Sequence[str], validator: str) -> Mix:
    if not any(_uses(tested.arms, chosen.best.weights, name) for name in harmful):
        return chosen.best
    allowed = [not set(harmful) & set(arm.sources) for arm in tested.arms]
    return (
        model_selection.among(allowed, model_selection.judge_of(tested.arms, validator))
        or chosen.baseline
    )


def _uses(arms: Sequence[ArmFiles], weights: Floats, source: str) -> bool:
    return any(w > 0 and source in arm.sources for arm, w in zip(arms, weights, strict=True))


def _named(arms: Sequence[ArmFiles], weights: Floats) -> str:
    """The sources of a mix, as a person would say them; a name of several words in quotes."""
    used = zip(arms, weights, strict=True)
    names = dict.fromkeys(name for arm, weight in used if weight > 0 for name in arm.sources)
    *others, last = (f"'{name}'" if " " in name else name for name in names)
    return f"{', '.join(others)} and {last}" if others else last
