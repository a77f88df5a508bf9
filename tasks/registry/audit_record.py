"""Recompute a blessing record: is what was said of a version still what its evidence says?"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import TypeAdapter

from tasks.registry import judge, versions
from tasks.registry.judge import Asked
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
    """One part of a record, and what became of it."""

    what: str
    status: Status
    detail: str


def record_of(name: str, version: int) -> dict[str, Any]:
    """The record of a version's promotion, or of its refusal.

    Raises:
        NothingToDoError: it was never judged.
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


def case_of(name: str, version: int, *, forced: bool) -> tuple[Path, Dataset, dict[str, Any]]:
    """What a version is judged by again: its evaluation, its data, and its record.

    Raises:
        DataRefusedError: the data is not the version it was evaluated on, and it is not forced.
        NothingToDoError: it was never judged.
    """
    record = record_of(name, version)
    target = _target(record)
    if isinstance(target, str):
        if not forced:
            raise DataRefusedError(
                f"version {version} of {name} was evaluated on other data: {target}. "
                "`crosstrain retrain` evaluates on the data of today; --force with a reason "
                "promotes without"
            )
        target = Dataset(list(record["data"])[-1], Path(_path(record)), "")
    evaluated = run_files.folder_of(versions.run_of(name, version), "evaluation")
    kept = {key: value for key, value in record.items() if key not in ("consent", "who")}
    return evaluated, target, kept


def verify(name: str, version: int) -> list[Check]:
    """Check a record against the ledger, its evidence against the record, and its rules anew.

    Raises:
        NothingToDoError: the version was never judged.
    """
    record = record_of(name, version)
    checks = [_in_the_ledger(name, version, record)]
    if "evidence" not in record:
        return [*checks, Check("evidence", "not checked", "the record is older than its keeping")]
    try:
        return [*checks, *_evidence(name, version, record)]
    except CrosstrainError as error:
        return [*checks, Check("evidence", "broken", str(error))]


def holds(checks: list[Check]) -> bool:
    """Whether nothing is broken."""
    return all(check.status != "broken" for check in checks)


def _in_the_ledger(name: str, version: int, record: Mapping[str, Any]) -> Check:
    told = [event for event in versions.history(name) if event["version"] == version]
    known = {event.get("blessing_sha256"): event for event in told}
    event = known.get(versions.digest(record))
    if event is None:
        return Check("record", "broken", "the ledger knows no such record: it was changed")
    return Check("record", "holds", f"as the ledger has it: {event['event']} {event['when']}")


def _evidence(name: str, version: int, record: Mapping[str, Any]) -> Iterator[Check]:
    run, kept = versions.run_of(name, version), record["evidence"]
    megabytes, digest = judge.measure(name, version)
    yield _same("model", digest, kept["model"])
    case = StoredEvaluation.load(run_files.folder_of(run, "evaluation"))
    yield _same("evaluation", case.digest, kept["evaluation"])
    against, answers = record["champion_before"], None
    if kept["champion"] is not None:
        answers = run_files.load_arrays(run, judge.answers_file(version, against))["probabilities"]
        yield _same("champion's answers", judge.digest_of_array(answers), kept["champion"])
    target = _target(record)
    if isinstance(target, str):
        yield Check("answers today", "not checked", target)
    else:
        yield _answers(judge.ask(name, version, case, target), kept["loaded_back"])
    asked = Asked(kept["loaded_back"], kept["served"], kept["milliseconds"])
    evaluation = EvaluateSettings.model_validate(record["judged_by"]["evaluate"])
    shown = judge.evidence(case, evaluation, record["champion_state"], answers, asked, megabytes)
    rules = TypeAdapter(tuple[Rule, ...]).validate_python(record["judged_by"]["rules"])
    for told, found in zip(record["rules"], gate.judge(rules, shown), strict=True):
        same = told == found.model_dump()
        detail = f"{'passed' if found.passed else 'failed'}: {found.found}"
        before = "" if same else f"; the record says {told['found']}"
        yield Check(f"rule {found.rule}", "holds" if same else "broken", detail + before)


def _same(what: str, found: str, expected: str) -> Check:
    if found == expected:
        return Check(what, "holds", f"unchanged, {found[:12]}")
    detail = f"found {found[:12] or 'nothing'}, the record says {expected[:12]}"
    return Check(what, "broken", detail)


def _target(record: Mapping[str, Any]) -> Dataset | str:
    """The target as it is recorded, where it is at hand; else why not."""
    path, (*_, name) = Path(_path(record)), record["data"]
    try:
        md5 = fingerprint(path)
    except CrosstrainError as error:
        return str(error)
    if md5 != record["data"][name]:
        return f"{path} is another version now: {md5}, then {record['data'][name]}"
    return Dataset(name, path, md5)


def _path(record: Mapping[str, Any]) -> str:
    return str(yaml.safe_load(record["settings"])["target"]["path"])


def _answers(asked: Asked, expected: float | None) -> Check:
    what = "answers today"
    if asked.loaded_back is None:
        return Check(what, "broken" if expected is not None else "holds", str(asked.fault))
    detail = f"probabilities differ by up to {asked.loaded_back:.1e}"
    close = expected is not None and asked.loaded_back <= max(2 * expected, 1e-5)
    return Check(what, "holds" if close else "broken", detail)
