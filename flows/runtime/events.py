"""Emits Prefect events about a target, which can trigger automations."""

from collections.abc import Mapping
from typing import Any, Literal

from prefect.events import emit_event

EventName = Literal["data-changed", "drift", "retrain-wanted", "promoted", "refused", "failed"]
PREFIX = "crosstrain."


def announce(event: EventName, target: str, payload: Mapping[str, Any]) -> None:
    """Emit ``crosstrain.<event>`` about the resource ``crosstrain.target.<target>``.

    Args:
        event: what happened.
        target: name of the target dataset.
        payload: plain JSON values; automations read them as ``{{ event.payload.<name> }}``.
    """
    resource = {"prefect.resource.id": f"{PREFIX}target.{target}", "prefect.resource.name": target}
    emit_event(PREFIX + event, resource=resource, payload=dict(payload))
