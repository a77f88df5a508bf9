"""Registers a challenger, and promotes or refuses it."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.evaluation import evaluate as evaluation_task
from tasks.registry import versions
from tasks.registry.judge import Judgement
from tasks.registry.versions import Promotion
from tasks.runtime.artifacts import ArmRef, Dataset, Ref
from tasks.runtime.step import step
from tasks.tracking import models
from transfer.core.errors import ModelFileError
from transfer.evaluation.report_schema import RuleOutcome
from transfer.settings.project import Settings


@dataclass(frozen=True)
class Outcome:
    """Whether the challenger was promoted, and why."""

    version: int | None
    promoted: bool
    reasons: list[str]
    rules: list[RuleOutcome]


@dataclass(frozen=True)
class Consent:
    """The decision of a person about a promotion, or the lack of a decision."""

    given: bool
    by: str
    reason: str


def model_name(settings: Settings) -> str:
    """Name of the registered model of a target."""
    return versions.name_of(settings.target.label)


@step("register", tags=["registry"], retries=2, timeout=900)
def register(model: Ref, run_id: str, tags: Mapping[str, str], settings: Settings) -> int:
    """Register the chosen model; a model with the same content is registered only once."""
    name = model_name(settings)
    return models.register(name, model.path / "model", model.digest, run_id, tags)


@step("promote", tags=["registry"])
def promote_or_refuse(
    judgement: Judgement,
    who: str,
    consent: Consent | None = None,
    forced_reason: str | None = None,
) -> Outcome:
    """Promote a version that passed its rules, or refuse it, and record the reasons.

    Args:
        judgement: the outcome of the rules.
        who: the user on whose behalf this happens, for the ledger.
        consent: the decision of a person, where one was asked; if not given, it refuses.
        forced_reason: why the version is promoted against the rules.

    Raises:
        ChampionChangedError: another version became champion since the version was judged.
        ModelFileError: the promotion is forced, and the version cannot be served.
        SettingsError: the reason for a forced promotion is blank.
    """
    if judgement.unchanged:
        return Outcome(judgement.version, True, judgement.reasons, judgement.rules)
    blessing, reasons, promote = (
        {**judgement.blessing, "who": who},
        judgement.reasons,
        judgement.promote,
    )
    if consent is not None:
        blessing["consent"] = {"given": consent.given, "by": consent.by, "reason": consent.reason}
        verdict = "agreed" if consent.given else "not agreed"
        promote, reasons = consent.given, [f"{verdict}, {consent.by}: {consent.reason}", *reasons]
    forced_reason = None if promote else forced_reason
    if forced_reason is not None:
        _require_serving(judgement)
    if promote or forced_reason is not None:
        versions.promote(
            judgement.name,
            judgement.version,
            reasons=reasons,
            blessing=blessing,
            forced_reason=forced_reason,
            judged_against=judgement.champion,
            who=who,
        )
        return Outcome(judgement.version, True, reasons, judgement.rules)
    versions.refuse(judgement.name, judgement.version, reasons, blessing, who=who)
    return Outcome(judgement.version, False, reasons, judgement.rules)


def _require_serving(judgement: Judgement) -> None:
    if fault := judgement.blessing["evidence"]["served"]:
        raise ModelFileError(
            f"version {judgement.version} of {judgement.name} cannot be served: {fault}; such a "
            "model is never promoted, also not with --force"
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
