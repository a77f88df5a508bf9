"""What happened to a target, told as Prefect events, on which automations act."""

from collections.abc import Mapping
from typing import Any, Literal

from prefect.events import emit_event

Kind = Literal["data-changed", "drift", "retrain-wanted", "promoted", "refused", "failed"]
PREFIX = "crosstrain."


def announce(kind: Kind, target: str, payload: Mapping[str, Any]) -> None:
    """Emit ``crosstrain.<kind>`` about the resource ``crosstrain.target.<target>``.

    Args:
        kind: what happened.
        target: name of the target dataset.
        payload: plain JSON values; automations read them as ``{{ event.payload.<name> }}``.
    """
    resource = {"prefect.resource.id": f"{PREFIX}target.{target}", "prefect.resource.name": target}
    emit_event(PREFIX + kind, resource=resource, payload=dict(payload))
