"""What every flow does besides its own work: say who is at it, and tell when it fails."""

from typing import Any

from flows.runtime.notify import tell_failure
from flows.runtime.run_liveness import claim

HOOKS: dict[str, Any] = {
    "on_running": [claim],
    "on_failure": [tell_failure],
    "on_crashed": [tell_failure],
}
"""Arguments of Prefect's ``flow``."""
