"""What every flow does besides its own work: say who is at it, and tell when it fails."""

from typing import Any

from flows.alive import claim
from flows.notify import tell_failure

HOOKS: dict[str, Any] = {
    "on_running": [claim],
    "on_failure": [tell_failure],
    "on_crashed": [tell_failure],
}
"""Arguments of Prefect's ``flow``."""
