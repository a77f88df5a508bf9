"""Make the previous champion champion again."""

from prefect import flow

from flows.alive import claim
from flows.notify import tell, tell_failure
from flows.who import who
from tasks import paths
from tasks.promote import rollback as undo
from transfer.settings import load


@flow(name="rollback", flow_run_name="{target}", on_running=[claim], on_failure=[tell_failure])
def rollback(target: str, reason: str) -> str:
    """Swap the champion and the previous one.

    Args:
        target: name of the target dataset.
        reason: why; it goes into the ledger.
    """
    done = undo(f"crosstrain-{target}", reason, who())
    told = {"model": done.name, "version": done.version, "reasons": [f"rolled back: {reason}"]}
    tell("promoted", target, told, load(paths.PARAMS).notify)
    message: str = done.message
    return message
