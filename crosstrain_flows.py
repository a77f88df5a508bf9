"""The flows by name, for Prefect, such as `crosstrain_flows.retrain`.

Prefect puts the working folder, a project's, in front of all others while it imports the module of
a flow. A project may have a folder `flows` or `tasks` of its own, which would hide ours. So nothing
of ours is imported before Prefect asks for a flow, when that folder is off the path again.
"""

import importlib
from typing import Any

NAMES = ("retrain", "ingest", "monitor", "score", "export", "promote", "rollback")


def __getattr__(name: str) -> Any:
    """The flow of that name, from the module of `flows` of that name.

    Raises:
        AttributeError: there is no such flow.
    """
    if name in NAMES:
        return getattr(importlib.import_module(f"flows.{name}"), name)
    raise AttributeError(f"{__name__} has no {name!r}; expected one of {', '.join(NAMES)}")
