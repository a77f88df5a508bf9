"""Judges a registered version by the promotion rules, on the current test split."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.registry import versions
from tasks.runtime.artifacts import Dataset
from tasks.runtime.step import log, step
from tasks.store.content_store import digest_of
from tasks.tracking import files as model_files
from tasks.tracking import load_back_check, run_files
from transfer.core.errors import CrosstrainError, DataRefusedError, ModelFileError
from transfer.deployment import raw_items as raw
from transfer.deployment.gate import rules as gate
from transfer.deployment.gate.evidence import ChampionState, Evidence
from transfer.deployment.gate.rules import PromoteSettings
from transfer.evaluation.report_schema import RuleOutcome
from transfer.evaluation.stored_evaluation import StoredEvaluation
from transfer.evaluation.tables import EvaluateSettings
from transfer.modalities import lookup
from transfer.modalities.interface import Modality
from transfer.models import predictor
from transfer.models.checkpoint import load_card

PARITY_ITEMS = 200
"""Number of test items that the registered model predicts again."""


@dataclass(frozen=True)
class Judgement:
    """A version, and the outcome of the promotion rules for it."""

    name: str
    version: int
    champion: int | None
    """The champion that the version was judged against."""
    promote: bool
    reasons: list[str]
    rules: list[RuleOutcome] = field(default_factory=list)
    blessing: dict[str, Any] = field(default_factory=dict)
    """The record: the version, the data, the rules and their outcomes."""

    @property
    def unchanged(self) -> bool:
        """Whether the version is already the champion."""
        return self.champion == self.version


@dataclass(frozen=True)
class LoadBack:
    """The result of loading the registered version in a separate process and predicting there."""

    loaded_back: float | None = None
    """Largest difference to the expected probabilities; None without a comparison."""
    fault: str | None = None
    """Why the version cannot be served; '' or None without a fault."""
    milliseconds: float | None = None
    """Median time of a request to MLflow's server."""


@step("judge", tags=["registry"])
def judge(
    name: str,
    version: int,
    evaluated: Path,
    target: Dataset,
    record: Mapping[str, Any],
    rules: PromoteSettings,
    evaluation: EvaluateSettings,
) -> Judgement:
    """Judge a version by every rule, on the current test split.

    Args:
        name: registered name.
        version: the registered challenger.
        evaluated: folder of the challenger's evaluation.
        target: the dataset with the raw test items.
        record: revisions and digests for the blessing record.
        rules: the promotion rules.
        evaluation: settings of the metric and of the intervals.
    """
    current = versions.champion(name)
    champion = current.version if current else None
    if champion == version:
        reason = f"unchanged: this model is already the champion, version {version}"
        return Judgement(name, version, champion, True, [reason])
    stored = StoredEvaluation.load(evaluated)
    state, predictions = champion_predictions(name, champion, stored, target)
    load_back = check_loading(name, version, stored, target)
    megabytes, digest = measure(name, version)
    facts = evidence(stored, evaluation, state, predictions, load_back, megabytes)
    outcomes = gate.judge(rules.rules, facts)
    decision = gate.promotable(outcomes)
    if rollback_reason := versions.rolled_back(name, version):
        advice = f"{rollback_reason}; to promote it again: `crosstrain promote {version} --force`"
        decision = gate.Decision(False, [advice, *decision.reasons])
    blessing = {
        **record,
        "model": name,
        "version": version,
        "champion_before": champion,
        "champion_state": state,
        "promote": decision.promote,
        "rules": [outcome.model_dump() for outcome in outcomes],
        "judged_by": {
            "rules": rules.model_dump(mode="json")["rules"],
            "evaluate": evaluation.model_dump(mode="json"),
        },
        "evidence": _evidence_record(digest, stored, predictions, load_back, megabytes),
    }
    if predictions is not None:
        run = versions.run_of(name, version)
        run_files.keep_arrays(
            run, predictions_file(version, champion), {"probabilities": predictions}
        )
    return Judgement(
        name, version, champion, decision.promote, list(decision.reasons), outcomes, blessing
    )


def _evidence_record(
    model: str,
    stored: StoredEvaluation,
    champion: NDArray[np.float32] | None,
    load_back: LoadBack,
    megabytes: float,
) -> dict[str, Any]:
    """Digests and figures of the evidence, from which a record can be recomputed."""
    return {
        "model": model,
        "evaluation": stored.digest,
        "champion": None if champion is None else digest_of_array(champion),
        "loaded_back": load_back.loaded_back,
        "served": load_back.fault,
        "milliseconds": load_back.milliseconds,
        "megabytes": megabytes,
    }


def evidence(
    stored: StoredEvaluation,
    evaluation: EvaluateSettings,
    state: ChampionState,
    champion: NDArray[np.float32] | None,
    load_back: LoadBack,
    megabytes: float,
) -> Evidence:
    """The evidence that the rules are applied to."""
    return Evidence(
        labels=stored.labels,
        chosen=stored.mixed,
        scratch_gain=stored.gain(evaluation),
        baseline=stored.evaluation.scratch.method,
        champion=champion,
        champion_state=state,
        load_back_difference=load_back.loaded_back,
        serving_error=load_back.fault,
        milliseconds=load_back.milliseconds,
        megabytes=megabytes,
        class_names=stored.class_names,
        level=evaluation.level,
        replicates=evaluation.replicates,
        seed=evaluation.seed,
        bins=evaluation.bins,
    )


def champion_predictions(
    name: str, champion: int | None, stored: StoredEvaluation, target: Dataset
) -> tuple[ChampionState, NDArray[np.float32] | None]:
    """State of the champion, and its probabilities (N, K) of the same items if it loads."""
    if champion is None:
        return "none", None
    try:
        model = predictor.load(model_files.model_folder(name, champion))
        return "loaded", raw.predict(model, target.path, stored.ids, stored.class_names)
    except (ModelFileError, DataRefusedError) as error:
        log.warning("the champion, version %s, cannot be judged: %s", champion, error)
        return "unloadable", None


def check_loading(name: str, version: int, stored: StoredEvaluation, target: Dataset) -> LoadBack:
    """Let a version predict raw items in a separate process; a blank item if they are missing."""
    try:
        card = load_card(model_files.model_folder(name, version), predictor.Card)
    except CrosstrainError as error:
        log.warning("%s", error)
        return LoadBack(fault=str(error))
    items = raw_items(stored, target, lookup.of(card.spec))
    expected = stored.mixed[:PARITY_ITEMS]
    if items is None:
        log.warning("%s lacks test items of version %s", target.path, version)
    files, arrays = items or (None, None)
    try:
        answers = load_back_check.load_back(name, version, files, arrays)
    except ModelFileError as error:
        log.warning("%s", error)
        return LoadBack(fault=str(error))
    probabilities = answers.arrays if answers.files is None else answers.files
    difference = (
        None
        if items is None or probabilities is None
        else float(np.abs(probabilities - expected).max())
    )
    return LoadBack(difference, answers.fault, None if answers.fault else answers.milliseconds)


def raw_items(
    stored: StoredEvaluation, target: Dataset, modality: Modality
) -> tuple[list[Path] | None, NDArray[Any] | None] | None:
    """The first test items as files or as arrays; None if they are missing."""
    ids = stored.ids[:PARITY_ITEMS]
    if not target.path.exists():
        return None
    if raw.is_arrays(target.path):
        return None, raw.arrays(target.path, ids, modality)
    files = raw.files(target.path, ids)
    return (files, None) if all(file.is_file() for file in files) else None


def measure(name: str, version: int) -> tuple[float, str]:
    """Size of a version's model files, in 10^6 bytes, and their digest."""
    try:
        folder = model_files.model_folder(name, version)
    except CrosstrainError as error:
        log.warning("%s", error)
        return float("nan"), ""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return size / 1e6, digest_of(folder)[0]


def predictions_file(version: int, champion: int | None) -> str:
    """Path of the champion's predictions in the run of a version that was judged against it."""
    return f"blessing/version-{version}-against-{champion}.npz"


def digest_of_array(array: NDArray[np.floating]) -> str:
    """SHA-256 of an array's values."""
    return hashlib.sha256(np.ascontiguousarray(array, np.float32).tobytes()).hexdigest()
