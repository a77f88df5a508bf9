"""Asks a person, in Prefect's UI, before a model is promoted."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Running
from pydantic import Field

from tasks.registry.judge import Judgement
from tasks.registry.promote import Consent
from transfer.deployment.gate.rules import PromoteSettings


class Approval(RunInput):
    """Should this version become the champion?"""

    approve: bool = Field(False, description="Promote it. If off, the champion stays.")
    name: str = Field(min_length=1, description="Who decides; written to the ledger.")
    reason: str = Field("", description="Why; written to the ledger.")


def consent(judgement: Judgement, settings: PromoteSettings) -> Consent | None:
    """The decision of a person about a version that passed every rule; None if nobody is asked.

    Waits for `promote.approval_hours`; no answer counts as a refusal.
    """
    if not settings.approval or judgement.unchanged or not judgement.promote:
        return None
    try:
        answer = pause_flow_run(
            wait_for_input=Approval.with_initial_data(description=_question(judgement)),
            timeout=int(settings.approval_hours * 3600),
            poll_interval=2,
        )
    except FlowPauseTimeout:
        _resume()
        reason = f"no answer in {settings.approval_hours:g} hours; the champion stays"
        return Consent(False, "nobody", reason)
    return Consent(answer.approve, answer.name, answer.reason or "no reason given")


def _resume() -> None:
    """Set the run to running again: Prefect regards a run that nobody resumed as failed."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(str(flow_run.id)), Running(), force=True)


def _question(judgement: Judgement) -> str:
    rules = "\n".join(
        f"| {rule.rule} | {rule.found} | {rule.expected} |" for rule in judgement.rules
    )
    opponent = (
        f"version {judgement.champion}"
        if judgement.champion
        else "no champion: it is the first version"
    )
    return (
        f"**{judgement.name}, version {judgement.version}**, against {opponent}. "
        "Every rule is passed.\n\n"
        f"| rule | found | expected |\n|---|---|---|\n{rules}\n"
    )
