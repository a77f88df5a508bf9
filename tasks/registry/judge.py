"""Judge a registered version by the rules, on the test split as it is now."""

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
from transfer.evaluation.stored_evaluation import Case
from transfer.evaluation.tables import EvaluateSettings
from transfer.modalities import lookup
from transfer.modalities.interface import Modality
from transfer.models import predictor
from transfer.models.checkpoint import load_card

PARITY_ITEMS = 200
"""Test items on which the registered model is asked again."""


@dataclass(frozen=True)
class Judged:
    """A version, and what the rules say of it."""

    name: str
    version: int
    champion: int | None
    """The version it was judged against."""
    promote: bool
    reasons: list[str]
    rules: list[RuleOutcome] = field(default_factory=list)
    blessing: dict[str, Any] = field(default_factory=dict)
    """The record: what was judged, on what, by which rules, with what outcome."""

    @property
    def unchanged(self) -> bool:
        """Whether it is the champion already."""
        return self.champion == self.version


@dataclass(frozen=True)
class Asked:
    """What the registered version said when it was asked in a fresh process."""

    loaded_back: float | None = None
    fault: str | None = None
    milliseconds: float | None = None


@step("judge", tags=["registry"])
def judge(
    name: str,
    version: int,
    evaluated: Path,
    target: Dataset,
    record: Mapping[str, Any],
    rules: PromoteSettings,
    evaluation: EvaluateSettings,
) -> Judged:
    """Judge every rule, on the current test split.

    Args:
        name: registered name.
        version: the registered challenger.
        evaluated: folder of its evaluation.
        target: where the raw test items are.
        record: revisions and digests for the blessing record.
        rules: what must hold.
        evaluation: of metric and intervals.
    """
    now = versions.champion(name)
    before = now.version if now else None
    if before == version:
        reason = f"unchanged: this model already is the champion, version {version}"
        return Judged(name, version, before, True, [reason])
    case = Case.load(evaluated)
    state, answers = ask_champion(name, before, case, target)
    asked = ask(name, version, case, target)
    megabytes, digest = measure(name, version)
    shown = evidence(case, evaluation, state, answers, asked, megabytes)
    outcomes = gate.judge(rules.rules, shown)
    decision = gate.promotable(outcomes)
    if why := versions.rolled_back(name, version):
        told = f"{why}; `crosstrain promote {version} --force` makes it champion all the same"
        decision = gate.Decision(False, [told, *decision.reasons])
    blessing = {
        **record,
        "model": name,
        "version": version,
        "champion_before": before,
        "champion_state": state,
        "promote": decision.promote,
        "rules": [outcome.model_dump() for outcome in outcomes],
        "judged_by": {
            "rules": rules.model_dump(mode="json")["rules"],
            "evaluate": evaluation.model_dump(mode="json"),
        },
        "evidence": _kept(digest, case, answers, asked, megabytes),
    }
    if answers is not None:
        run = versions.run_of(name, version)
        run_files.keep_arrays(run, answers_file(version, before), {"probabilities": answers})
    return Judged(
        name, version, before, decision.promote, list(decision.reasons), outcomes, blessing
    )


def _kept(
    model: str,
    case: Case,
    champion: NDArray[np.float32] | None,
    asked: Asked,
    megabytes: float,
) -> dict[str, Any]:
    """What a record says of its evidence, by which it can be recomputed."""
    return {
        "model": model,
        "evaluation": case.digest,
        "champion": None if champion is None else digest_of_array(champion),
        "loaded_back": asked.loaded_back,
        "served": asked.fault,
        "milliseconds": asked.milliseconds,
        "megabytes": megabytes,
    }


def evidence(
    case: Case,
    evaluation: EvaluateSettings,
    state: ChampionState,
    champion: NDArray[np.float32] | None,
    asked: Asked,
    megabytes: float,
) -> Evidence:
    """What the rules are judged on."""
    return Evidence(
        labels=case.labels,
        chosen=case.mixed,
        scratch_gain=case.gain(evaluation),
        baseline=case.evaluation.scratch.method,
        champion=champion,
        champion_state=state,
        loaded_back=asked.loaded_back,
        served=asked.fault,
        milliseconds=asked.milliseconds,
        megabytes=megabytes,
        class_names=case.class_names,
        level=evaluation.level,
        replicates=evaluation.replicates,
        seed=evaluation.seed,
        bins=evaluation.bins,
    )


def ask_champion(
    name: str, champion: int | None, case: Case, target: Dataset
) -> tuple[ChampionState, NDArray[np.float32] | None]:
    """Let the champion predict the same items; what it said, if it could."""
    if champion is None:
        return "none", None
    try:
        model = predictor.load(model_files.model_folder(name, champion))
        return "loaded", raw.predict(model, target.path, case.ids, case.class_names)
    except (ModelFileError, DataRefusedError) as error:
        log.warning("the champion, version %s, cannot be judged: %s", champion, error)
        return "unloadable", None


def ask(name: str, version: int, case: Case, target: Dataset) -> Asked:
    """Ask a version about raw items in a fresh process; about a blank one where they are gone."""
    try:
        card = load_card(model_files.model_folder(name, version), predictor.Card)
    except CrosstrainError as error:
        log.warning("%s", error)
        return Asked(fault=str(error))
    items = raw_items(case, target, lookup.of(card.spec))
    expected = case.mixed[:PARITY_ITEMS]
    if items is None:
        log.warning("%s lacks items that version %s was tested on", target.path, version)
    files, arrays = items or (None, None)
    try:
        answers = load_back_check.load_back(name, version, files, arrays)
    except ModelFileError as error:
        log.warning("%s", error)
        return Asked(fault=str(error))
    told = answers.arrays if answers.files is None else answers.files
    off = None if items is None or told is None else float(np.abs(told - expected).max())
    return Asked(off, answers.fault, None if answers.fault else answers.milliseconds)


def raw_items(
    case: Case, target: Dataset, modality: Modality
) -> tuple[list[Path] | None, NDArray[Any] | None] | None:
    """The first test items as files or as arrays; None where they are no longer there."""
    ids = case.ids[:PARITY_ITEMS]
    if not target.path.exists():
        return None
    if raw.is_arrays(target.path):
        return None, raw.arrays(target.path, ids, modality)
    files = raw.files(target.path, ids)
    return (files, None) if all(file.is_file() for file in files) else None


def measure(name: str, version: int) -> tuple[float, str]:
    """Size of a version's model files, 10^6 bytes, and their digest."""
    try:
        folder = model_files.model_folder(name, version)
    except CrosstrainError as error:
        log.warning("%s", error)
        return float("nan"), ""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return size / 1e6, digest_of(folder)[0]


def answers_file(version: int, champion: int | None) -> str:
    """Where, in a run, the champion's answers are that a version was judged against."""
    return f"blessing/version-{version}-against-{champion}.npz"


def digest_of_array(array: NDArray[np.floating]) -> str:
    """SHA-256 of an array's values."""
    return hashlib.sha256(np.ascontiguousarray(array, np.float32).tobytes()).hexdigest()
