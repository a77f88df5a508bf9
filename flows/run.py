"""Start a flow from a terminal."""

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.retrain import retrain
from transfer.result import Result
from transfer.settings import Settings


def run(settings: Settings, *, promote: bool) -> Result:
    """Run the chain in this process.

    Without ``PREFECT_API_URL`` Prefect starts a server of its own for the run. Heartbeats are
    off: they cost a second a flow and serve only runs that nobody watches.
    """
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return retrain(settings, promote=promote)
