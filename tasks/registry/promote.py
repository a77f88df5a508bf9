"""Register a challenger, and carry out what was decided of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.evaluation import evaluate as evaluation_task
from tasks.registry import versions
from tasks.registry.judge import Judged
from tasks.registry.versions import Promotion
from tasks.runtime.artifacts import ArmRef, Dataset, Ref
from tasks.runtime.step import step
from tasks.tracking import models
from transfer.core.errors import ModelFileError
from transfer.evaluation.report_schema import RuleOutcome
from transfer.settings.project import Settings


@dataclass(frozen=True)
class Outcome:
    """What became of the challenger."""

    version: int | None
    promoted: bool
    reasons: list[str]
    rules: list[RuleOutcome]


@dataclass(frozen=True)
class Consent:
    """What a person said of a promotion, or that nobody did."""

    given: bool
    by: str
    reason: str


def model_name(settings: Settings) -> str:
    """Name of the registered model of a target."""
    return versions.name_of(settings.target.label)


@step("register", tags=["registry"], retries=2, timeout=900)
def register(model: Ref, run_id: str, tags: Mapping[str, str], settings: Settings) -> int:
    """Register the chosen model, once for each content."""
    name = model_name(settings)
    return models.register(name, model.path / "model", model.digest, run_id, tags)


@step("promote", tags=["registry"])
def settle(
    judged: Judged,
    who: str,
    consent: Consent | None = None,
    forced_reason: str | None = None,
) -> Outcome:
    """Promote a version whose rules hold, refuse another, and write down why.

    Args:
        judged: what the rules say.
        who: on whose behalf, for the ledger.
        consent: what a person said, where one was asked; without it a promotion is refused.
        forced_reason: why it is promoted against the rules.

    Raises:
        ChampionChangedError: another version became champion since it was judged.
        ModelFileError: it is to be forced and does not answer.
        SettingsError: the reason for a forced promotion is blank.
    """
    if judged.unchanged:
        return Outcome(judged.version, True, judged.reasons, judged.rules)
    blessing, reasons, promote = {**judged.blessing, "who": who}, judged.reasons, judged.promote
    if consent is not None:
        blessing["consent"] = {"given": consent.given, "by": consent.by, "reason": consent.reason}
        said = "agreed" if consent.given else "not agreed"
        promote, reasons = consent.given, [f"{said}, {consent.by}: {consent.reason}", *reasons]
    forced_reason = None if promote else forced_reason
    if forced_reason is not None:
        _demand_answers(judged)
    if promote or forced_reason is not None:
        versions.promote(
            judged.name,
            judged.version,
            reasons=reasons,
            blessing=blessing,
            forced_reason=forced_reason,
            judged_against=judged.champion,
            who=who,
        )
        return Outcome(judged.version, True, reasons, judged.rules)
    versions.refuse(judged.name, judged.version, reasons, blessing, who=who)
    return Outcome(judged.version, False, reasons, judged.rules)


def _demand_answers(judged: Judged) -> None:
    if fault := judged.blessing["evidence"]["served"]:
        raise ModelFileError(
            f"version {judged.version} of {judged.name} does not answer: {fault}; a model that "
            "cannot serve is not promoted, with force or without"
        )


@step("rollback", tags=["registry"])
def rollback(name: str, reason: str, who: str) -> Promotion:
    """Swap the champion and the previous one."""
    return versions.rollback(name, reason, who=who)


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
