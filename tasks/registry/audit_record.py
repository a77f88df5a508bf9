"""Recomputes a blessing record: does the evidence of a version still give the same decision?"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import TypeAdapter

from tasks.registry import judge, versions
from tasks.registry.judge import LoadBack
from tasks.runtime.artifacts import Dataset
from tasks.tracking import run_files
from tasks.versioning.dvc_md5 import fingerprint
from transfer.core.errors import CrosstrainError, DataRefusedError, NothingToDoError
from transfer.deployment.gate import rules as gate
from transfer.deployment.gate.rules import Rule
from transfer.evaluation.stored_evaluation import StoredEvaluation
from transfer.evaluation.tables import EvaluateSettings

Status = Literal["holds", "broken", "not checked"]


class Check(NamedTuple):
    """One part of a record, and the result of checking it."""

    what: str
    status: Status
    detail: str


def record_of(name: str, version: int) -> dict[str, Any]:
    """The record of a version's promotion, or of its refusal.

    Raises:
        NothingToDoError: the version was never judged.
    """
    tags = versions.tags_of(name, version)
    text = tags.get("blessing") or tags.get("refusal")
    if not text:
        raise NothingToDoError(
            f"version {version} of {name} was never judged; `crosstrain retrain` judges what it "
            "registers, and `crosstrain promote` any version"
        )
    record: dict[str, Any] = json.loads(text)
    return record


def evaluated_version(
    name: str, version: int, *, forced: bool
) -> tuple[Path, Dataset, dict[str, Any]]:
    """What is needed to judge a version again: evaluation folder, target dataset and record.

    Args:
        forced: accept data that differs from the data of the evaluation.

    Raises:
        DataRefusedError: the data differs from the data of the evaluation, and it is not forced.
        NothingToDoError: the version was never judged.
    """
    record = record_of(name, version)
    target = _target(record)
    if isinstance(target, str):
        if not forced:
            raise DataRefusedError(
                f"version {version} of {name} was evaluated on other data: {target}. "
                "`crosstrain retrain` evaluates on the current data; --force with a reason "
                "promotes without a new evaluation"
            )
        target = Dataset(list(record["data"])[-1], Path(_target_path(record)), "")
    evaluated = run_files.folder_of(versions.run_of(name, version), "evaluation")
    rest = {key: value for key, value in record.items() if key not in ("consent", "who")}
    return evaluated, target, rest


def verify(name: str, version: int) -> list[Check]:
    """Check a record against the ledger and its evidence against the record, and judge it again.

    Raises:
        NothingToDoError: the version was never judged.
    """
    record = record_of(name, version)
    checks = [_in_the_ledger(name, version, record)]
    if "evidence" not in record:
        return [
            *checks,
            Check("evidence", "not checked", "the record is older than the keeping of evidence"),
        ]
    try:
        return [*checks, *_evidence(name, version, record)]
    except CrosstrainError as error:
        return [*checks, Check("evidence", "broken", str(error))]


def holds(checks: list[Check]) -> bool:
    """Whether no check is broken."""
    return all(check.status != "broken" for check in checks)


def _in_the_ledger(name: str, version: int, record: Mapping[str, Any]) -> Check:
    events = [event for event in versions.history(name) if event["version"] == version]
    by_digest = {event.get("blessing_sha256"): event for event in events}
    event = by_digest.get(versions.digest(record))
    if event is None:
        return Check("record", "broken", "the ledger has no such record: the record was changed")
    return Check("record", "holds", f"equal to the ledger: {event['event']} {event['when']}")


def _evidence(name: str, version: int, record: Mapping[str, Any]) -> Iterator[Check]:
    run, recorded_evidence = versions.run_of(name, version), record["evidence"]
    megabytes, digest = judge.measure(name, version)
    yield _compare_digests("model", digest, recorded_evidence["model"])
    evaluated = StoredEvaluation.load(run_files.folder_of(run, "evaluation"))
    yield _compare_digests("evaluation", evaluated.digest, recorded_evidence["evaluation"])
    champion, champion_predictions = record["champion_before"], None
    if recorded_evidence["champion"] is not None:
        champion_predictions = run_files.load_arrays(
            run, judge.predictions_file(version, champion)
        )["probabilities"]
        yield _compare_digests(
            "champion's predictions",
            judge.digest_of_array(champion_predictions),
            recorded_evidence["champion"],
        )
    target = _target(record)
    if isinstance(target, str):
        yield Check("predictions today", "not checked", target)
    else:
        yield _compare_predictions(
            judge.check_loading(name, version, evaluated, target), recorded_evidence["loaded_back"]
        )
    load_back = LoadBack(
        recorded_evidence["loaded_back"],
        recorded_evidence["served"],
        recorded_evidence["milliseconds"],
    )
    evaluation = EvaluateSettings.model_validate(record["judged_by"]["evaluate"])
    facts = judge.evidence(
        evaluated, evaluation, record["champion_state"], champion_predictions, load_back, megabytes
    )
    rules = TypeAdapter(tuple[Rule, ...]).validate_python(record["judged_by"]["rules"])
    for recorded, outcome in zip(record["rules"], gate.judge(rules, facts), strict=True):
        equal = recorded == outcome.model_dump()
        detail = f"{'passed' if outcome.passed else 'failed'}: {outcome.found}"
        before = "" if equal else f"; the record has: {recorded['found']}"
        yield Check(f"rule {outcome.rule}", "holds" if equal else "broken", detail + before)


def _compare_digests(part: str, digest: str, expected: str) -> Check:
    if digest == expected:
        return Check(part, "holds", f"unchanged, {digest[:12]}")
    detail = f"found {digest[:12] or 'nothing'}, expected {expected[:12]} as in the record"
    return Check(part, "broken", detail)


def _target(record: Mapping[str, Any]) -> Dataset | str:
    """The target dataset if it is the recorded version; otherwise the reason why it is not."""
    path, (*_, name) = Path(_target_path(record)), record["data"]
    try:
        md5 = fingerprint(path)
    except CrosstrainError as error:
        return str(error)
    if md5 != record["data"][name]:
        return f"{path} is another version now: {md5}, then {record['data'][name]}"
    return Dataset(name, path, md5)


def _target_path(record: Mapping[str, Any]) -> str:
    return str(yaml.safe_load(record["settings"])["target"]["path"])


def _compare_predictions(load_back: LoadBack, expected: float | None) -> Check:
    part = "predictions today"
    if load_back.loaded_back is None:
        return Check(part, "broken" if expected is not None else "holds", str(load_back.fault))
    detail = f"probabilities differ by up to {load_back.loaded_back:.1e}"
    close = expected is not None and load_back.loaded_back <= max(2 * expected, 1e-5)
    return Check(part, "holds" if close else "broken", detail)
