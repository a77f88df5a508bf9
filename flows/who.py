"""On whose behalf a flow runs, for the ledger."""

from prefect.runtime import deployment, flow_run

from tasks.identity import at_a_terminal, person


def who() -> str:
    """User, machine, and what started the run: a terminal, or a deployment and what started that.

    A run that its schedule started has Prefect's tag for it.
    """
    if deployment.id is None:
        return at_a_terminal()
    how = "by schedule" if "auto-scheduled" in flow_run.tags else "on request"
    return f"{person()}, deployment {deployment.name} {how}, run {flow_run.name}"
