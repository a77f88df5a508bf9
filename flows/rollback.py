"""Makes the previous champion the champion again."""

from prefect import flow

from flows.runtime.actor import who
from flows.runtime.hooks import HOOKS
from flows.runtime.notify import emit_and_notify, notify_settings
from tasks.registry import versions
from tasks.registry.promote import rollback as undo


@flow(name="rollback", flow_run_name="{target}", **HOOKS)
def rollback(target: str, reason: str) -> str:
    """Swap the champion and the previous one.

    Args:
        target: name of the target dataset.
        reason: why; written to the ledger.
    """
    rolled_back = undo(versions.name_of(target), reason, who())
    payload = {
        "model": rolled_back.name,
        "version": rolled_back.version,
        "reasons": [f"rolled back: {reason}"],
    }
    emit_and_notify("promoted", target, payload, notify_settings())
    message: str = rolled_back.message
    return message
