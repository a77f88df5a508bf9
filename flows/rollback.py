"""Make the previous champion champion again."""

from prefect import flow

from flows.events import announce
from flows.who import who
from tasks.promote import rollback as undo


@flow(name="rollback", flow_run_name="{target}")
def rollback(target: str, reason: str) -> str:
    """Swap the champion and the previous one.

    Args:
        target: name of the target dataset.
        reason: why; it goes into the ledger.
    """
    done = undo(f"crosstrain-{target}", reason, who())
    announce("promoted", target, {"model": done.name, "version": done.version, "reasons": [reason]})
    message: str = done.message
    return message
