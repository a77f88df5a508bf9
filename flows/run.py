"""Start a flow from a terminal."""

import logging

from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)

from flows import server
from flows.retrain import retrain
from transfer.result import Result
from transfer.settings import Settings

ENGINE = ("prefect.flow_runs", "prefect.task_runs")


def run(settings: Settings, *, promote: bool) -> Result:
    """Run the chain in this process.

    Without ``PREFECT_API_URL`` a server is started for this process. Heartbeats are off: they cost
    a second a flow and serve only runs that nobody watches.

    Raises:
        CrosstrainError: a step failed. Prefect's UI has it as Failed, with traceback; the terminal
            is left to the caller.
    """
    api = server.address()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_not_the_engine)
    with temporary_settings({PREFECT_API_URL: api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return retrain(settings, promote=promote)


def _not_the_engine(record: logging.LogRecord) -> bool:
    """Keep Prefect's tracebacks of failed tasks and flows from a terminal.

    The error goes through every task and flow up to the command line, which tells it once.
    """
    return record.name not in ENGINE or record.levelno < logging.ERROR
