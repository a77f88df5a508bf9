"""Tell people what happened, through a notification block of Prefect, where one is set."""

from pathlib import Path
from typing import Any, Protocol, cast

from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.schemas.objects import FlowRun, State

from flows.runtime.events import Kind, announce
from tasks.runtime import paths
from tasks.runtime.step import log
from transfer.core.errors import CrosstrainError
from transfer.settings import project as typed
from transfer.settings.service import NotifySettings


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


def configured() -> NotifySettings:
    """Whom params.yaml says to tell; nobody where it cannot be read."""
    try:
        return typed.load(paths.PARAMS).notify
    except CrosstrainError as error:
        log.warning("nobody can be notified: %s", error)
        return NotifySettings()


def tell_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell that a run failed or crashed; a hook for a flow's end."""
    told = flow_run.parameters
    subject = str(told.get("target") or told.get("dataset") or "")
    if not subject and isinstance(told.get("settings"), dict):
        target = told["settings"].get("target", "")  # of a form, or as dumped from whole settings
        subject = Path(target.get("path", "") if isinstance(target, dict) else target).stem
    tell(
        "failed",
        subject or flow.name,
        {"run": flow_run.name, "flow": flow.name, "state": state.message or state.name},
        configured(),
    )
