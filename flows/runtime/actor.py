"""The actor of a flow run: on whose behalf it runs, for the ledger."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import CreatedBy
from prefect.runtime import deployment, flow_run

from tasks.runtime.user import at_a_terminal, person


def who() -> str:
    """User, host, and what started the run: a terminal, or the trigger of its deployment."""
    if deployment.id is None:
        return at_a_terminal()
    with get_client(sync_client=True) as client:
        creator = client.read_flow_run(UUID(flow_run.id)).created_by
    return f"{person()}, deployment {deployment.name} {started(creator)}, run {flow_run.name}"


def started(creator: CreatedBy | None) -> str:
    """The trigger of a deployment's run: its schedule, an automation (by name), or a request."""
    if creator is None or creator.type not in {"SCHEDULE", "AUTOMATION"}:
        return "on request"
    return "by schedule" if creator.type == "SCHEDULE" else f"by automation {creator.display_value}"
