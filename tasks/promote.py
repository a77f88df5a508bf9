"""Judge the challenger by the rules of params.yaml, and move the alias or leave it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import evaluate as evaluation_task
from tasks import registry, track
from tasks.refs import ArmRef, Dataset, Ref
from tasks.step import log, step
from transfer import ensemble as mixing
from transfer import gate, predict, raw
from transfer.errors import DataRefusedError, ModelFileError
from transfer.evidence import ChampionState, Evidence
from transfer.result import RuleOutcome
from transfer.settings import Settings

PARITY_ITEMS = 200
"""Test items on which the registered model is asked again."""


@dataclass(frozen=True)
class Outcome:
    """What became of the challenger."""

    version: int | None
    promoted: bool
    reasons: list[str]
    rules: list[RuleOutcome]


def model_name(settings: Settings) -> str:
    """Name of the registered model of a target."""
    return f"crosstrain-{settings.target.label}"


@dataclass(frozen=True)
class _Tested:
    """The challenger's own predictions on the test split: N items, K classes."""

    ids: list[str]
    labels: NDArray[np.int64]
    chosen: NDArray[np.float64]  # N x K

    @classmethod
    def load(cls, evaluated: Ref) -> "_Tested":
        weights = np.array([arm.weight for arm in evaluation_task.load(evaluated).arms])
        with np.load(evaluated.path / "predictions.npz", allow_pickle=False) as stored:
            mixed = mixing.combine(stored["probabilities"], weights)
            return cls(stored["ids"].tolist(), stored["labels"], mixed)


@step("register", tags=["registry"], retries=2, timeout=900)
def register(model: Ref, run_id: str, tags: Mapping[str, str], settings: Settings) -> int:
    """Register the chosen model, once for each content."""
    name = model_name(settings)
    return track.register(name, model.path / "model", model.digest, run_id, tags)


@step("promote", tags=["registry"])
def promote(
    version: int,
    evaluated: Ref,
    target: Dataset,
    record: Mapping[str, Any],
    settings: Settings,
) -> Outcome:
    """Judge every rule on the current test split; promote when all hold.

    Args:
        version: the registered challenger.
        evaluated: the evaluation.
        target: where the raw test items are.
        record: revisions and digests for the blessing record.
        settings: the rules.
    """
    name, champion = model_name(settings), registry.champion(model_name(settings))
    if champion is not None and champion.version == version:
        reason = f"unchanged: this model already is the champion, version {version}"
        return Outcome(version, True, [reason], [])
    tested = _Tested.load(evaluated)
    evidence = _evidence(name, version, tested, evaluated, target, settings)
    outcomes = gate.judge(settings.promote.rules, evidence)
    decision = gate.promotable(outcomes)
    blessing = {
        **record,
        "model": name,
        "version": version,
        "champion_before": champion.version if champion else None,
        "champion_state": evidence.champion_state,
        "promote": decision.promote,
        "rules": [outcome.model_dump() for outcome in outcomes],
    }
    if decision.promote:
        registry.promote(
            name,
            version,
            reasons=decision.reasons,
            blessing=blessing,
            judged_against=champion.version if champion else None,
        )
    else:
        registry.refuse(name, version, decision.reasons, blessing)
    return Outcome(version, decision.promote, list(decision.reasons), outcomes)


def _evidence(
    name: str,
    version: int,
    tested: _Tested,
    evaluated: Ref,
    target: Dataset,
    settings: Settings,
) -> Evidence:
    evaluation = evaluation_task.load(evaluated)
    class_names = [c.name for c in evaluation.classes]
    state, champion = _champion(name, version, tested, target, class_names)
    return Evidence(
        labels=tested.labels,
        chosen=tested.chosen,
        scratch_gain=evaluation.gain,
        baseline=evaluation.scratch.method,
        champion=champion,
        champion_state=state,
        loaded_back=_loaded_back(name, version, tested, target),
        class_names=class_names,
        level=settings.evaluate.level,
        replicates=settings.evaluate.replicates,
        seed=settings.evaluate.seed,
        bins=settings.evaluate.bins,
    )


def _champion(
    name: str, version: int, tested: _Tested, target: Dataset, class_names: list[str]
) -> tuple[ChampionState, NDArray[np.float32] | None]:
    champion = registry.champion(name)
    if champion is None:
        return "none", None
    if champion.version == version:
        return "same", None
    try:
        model = predict.load(track.model_folder(name, champion.version))
        answers = raw.predict(model, target.path, tested.ids, class_names)
    except (ModelFileError, DataRefusedError) as error:
        log.warning("the champion, version %s, cannot be judged: %s", champion.version, error)
        return "unloadable", None
    return "loaded", answers


def _loaded_back(name: str, version: int, tested: _Tested, target: Dataset) -> float | None:
    """Largest difference of a probability, asked anew from raw items; None when it fails."""
    ids, expected = tested.ids[:PARITY_ITEMS], tested.chosen[:PARITY_ITEMS]
    try:
        if raw.is_arrays(target.path):
            answers = track.load_back(name, version, arrays=raw.arrays(target.path, ids))
        else:
            answers = track.load_back(name, version, files=raw.files(target.path, ids))
    except ModelFileError as error:
        log.warning("%s", error)
        return None
    told = [a for a in (answers.files, answers.arrays) if a is not None]
    return max(float(np.abs(answer - expected).max()) for answer in told)


def version_tags(arms: list[ArmRef], datasets: list[Dataset], evaluated: Ref) -> dict[str, str]:
    """Figures and data revisions, as tags of the registered version."""
    evaluation = evaluation_task.load(evaluated)
    figures = {
        "accuracy": evaluation.chosen.accuracy,
        "low": evaluation.chosen.low,
        "high": evaluation.chosen.high,
        "macro_f1": evaluation.chosen.macro_f1,
        "gain": evaluation.gain.point,
        "gain_low": evaluation.gain.low,
        "gain_high": evaluation.gain.high,
        "test_items": evaluation.test_items,
    }
    tags = {f"figure.{key}": repr(round(value, 6)) for key, value in figures.items()}
    tags |= {f"data.{d.name}": d.md5 for d in datasets}
    return tags | {"verdict": evaluation.verdict, "arms": str(len(arms))}
