"""Hooks of every flow: record the process that runs it, and notify about a failure."""

from typing import Any

from flows.runtime.notify import notify_failure
from flows.runtime.run_liveness import record_process

HOOKS: dict[str, Any] = {
    "on_running": [record_process],
    "on_failure": [notify_failure],
    "on_crashed": [notify_failure],
}
"""Arguments of Prefect's ``flow``."""
