"""Tell people what happened, through a notification block of Prefect, where one is set."""

from typing import Any, Protocol, cast

from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.schemas.objects import FlowRun, State

from flows.events import Kind, announce
from tasks import paths
from tasks.step import log
from transfer import settings as typed
from transfer.errors import CrosstrainError
from transfer.operation import NotifySettings


class _Notifier(Protocol):
    def notify(self, body: str, subject: str | None = None) -> None:
        """Send it."""


def tell(kind: Kind, target: str, payload: dict[str, Any], settings: NotifySettings) -> None:
    """Announce what happened as an event, and send it where the settings say.

    A message that cannot be sent is told on the log and stops nothing.
    """
    announce(kind, target, payload)
    if settings.block is None or kind not in settings.of:
        return
    lines = [f"{name}: {value}" for name, value in payload.items() if not isinstance(value, list)]
    lines += [f"- {one}" for value in payload.values() if isinstance(value, list) for one in value]
    try:
        block = cast(_Notifier, Block.load(settings.block))
        block.notify("\n".join(lines), subject=f"crosstrain: {target} {kind}")
    except Exception as error:  # of any service, of any kind
        log.warning("could not notify %s: %s", settings.block, type(error).__name__)


def tell_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell that a run failed or crashed; a hook for a flow's end."""
    told = flow_run.parameters.get("settings")
    try:
        settings = typed.check(told, "the run") if isinstance(told, dict) else None
        notify = (settings or typed.load(paths.PARAMS)).notify
    except CrosstrainError as error:
        log.warning("could not notify: %s", error)
        return
    subject = settings.target.label if settings else str(flow_run.parameters.get("target", ""))
    tell("failed", subject, {"run": flow_run.name, "state": state.message or state.name}, notify)
