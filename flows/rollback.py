"""Make the previous champion champion again."""

from prefect import flow

from flows.runtime.actor import who
from flows.runtime.hooks import HOOKS
from flows.runtime.notify import configured, tell
from tasks.registry import versions
from tasks.registry.promote import rollback as undo


@flow(name="rollback", flow_run_name="{target}", **HOOKS)
def rollback(target: str, reason: str) -> str:
    """Swap the champion and the previous one.

    Args:
        target: name of the target dataset.
        reason: why; it goes into the ledger.
    """
    done = undo(versions.name_of(target), reason, who())
    told = {"model": done.name, "version": done.version, "reasons": [f"rolled back: {reason}"]}
    tell("promoted", target, told, configured())
    message: str = done.message
    return message
