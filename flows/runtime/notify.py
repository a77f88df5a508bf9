"""Notifies people through a notification block of Prefect, if one is set."""

from pathlib import Path
from typing import Any, Protocol, cast

from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.schemas.objects import FlowRun, State

from flows.runtime.events import EventName, announce
from tasks.runtime import paths
from tasks.runtime.step import log
from transfer.core.errors import CrosstrainError
from transfer.settings import project as typed
from transfer.settings.service import NotifySettings


class _Notifier(Protocol):
    def notify(self, body: str, subject: str | None = None) -> None:
        """Send a message."""


def emit_and_notify(
    event: EventName, target: str, payload: dict[str, Any], settings: NotifySettings
) -> None:
    """Emit an event, and send a message about it if the settings request it.

    A message that cannot be sent is logged as a warning; the run continues.
    """
    announce(event, target, payload)
    if settings.block is None or event not in settings.of:
        return
    lines = [f"{name}: {value}" for name, value in payload.items() if not isinstance(value, list)]
    lines += [
        f"- {entry}" for value in payload.values() if isinstance(value, list) for entry in value
    ]
    try:
        block = cast(_Notifier, Block.load(settings.block))
        block.notify("\n".join(lines), subject=f"crosstrain: {target} {event}")
    except Exception as error:  # any error of any service
        log.warning("could not notify %s: %s", settings.block, type(error).__name__)


def notify_settings() -> NotifySettings:
    """The notification settings in params.yaml; the defaults (nobody) if it cannot be read."""
    try:
        return typed.load(paths.PARAMS).notify
    except CrosstrainError as error:
        log.warning("nobody can be notified: %s", error)
        return NotifySettings()


def notify_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Notify that a run failed or crashed; a hook for the end of a flow."""
    parameters = flow_run.parameters
    subject = str(parameters.get("target") or parameters.get("dataset") or "")
    if not subject and isinstance(parameters.get("settings"), dict):
        # the target of a form is a path; that of complete settings is a section with a path
        named = parameters["settings"].get("target", "")
        subject = Path(named.get("path", "") if isinstance(named, dict) else named).stem
    emit_and_notify(
        "failed",
        subject or flow.name,
        {"run": flow_run.name, "flow": flow.name, "state": state.message or state.name},
        notify_settings(),
    )
