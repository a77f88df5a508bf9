"""Ask a person, in Prefect's UI, before a model is promoted."""

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
    """Shall this version become the champion?"""

    approve: bool = Field(False, description="Promote it. Left off, the champion stays.")
    name: str = Field(min_length=1, description="Who decides; it goes into the ledger.")
    reason: str = Field("", description="Why; it goes into the ledger.")


def consent(judged: Judgement, settings: PromoteSettings) -> Consent | None:
    """What a person says to a version of which every rule holds; None when nobody is to be asked.

    Waits for `promote.approval_hours`; silence is no consent.
    """
    if not settings.approval or judged.unchanged or not judged.promote:
        return None
    try:
        answer = pause_flow_run(
            wait_for_input=Approval.with_initial_data(description=_question(judged)),
            timeout=int(settings.approval_hours * 3600),
            poll_interval=2,
        )
    except FlowPauseTimeout:
        _go_on()
        why = f"no answer in {settings.approval_hours:g} hours; the champion stays"
        return Consent(False, "nobody", why)
    return Consent(answer.approve, answer.name, answer.reason or "no reason given")


def _go_on() -> None:
    """Tell Prefect that the run goes on: it takes one that nobody resumed for failed."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(str(flow_run.id)), Running(), force=True)


def _question(judged: Judgement) -> str:
    rules = "\n".join(f"| {one.rule} | {one.found} | {one.expected} |" for one in judged.rules)
    against = f"version {judged.champion}" if judged.champion else "nothing: it is the first"
    return (
        f"**{judged.name}, version {judged.version}**, against {against}. Every rule holds.\n\n"
        f"| rule | found | expected |\n|---|---|---|\n{rules}\n"
    )
