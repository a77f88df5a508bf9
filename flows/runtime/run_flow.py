"""Starts a flow from a terminal."""

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)

from flows.runtime import local_prefect, run_liveness
from tasks.runtime import gc_tuning

Result = TypeVar("Result")
ENGINE = ("prefect.flow_runs", "prefect.task_runs")


def run(flow: Callable[[], Result]) -> Result:
    """Call a flow from a terminal, as `call` does; Ctrl-C ends the process with exit code 130.

    Raises:
        CrosstrainError: a step failed.
    """
    try:
        return call(flow)
    except KeyboardInterrupt:
        print("crosstrain: interrupted; run again to continue from here", file=sys.stderr)
        sys.exit(130)


def call(flow: Callable[[], Result]) -> Result:
    """Call a flow in this process.

    Without ``PREFECT_API_URL``, a server is started for this process. Heartbeats are off: they cost
    a second per flow and help only runs without supervision. Killed runs are marked as crashed.

    Raises:
        CrosstrainError: a step failed. Prefect's UI shows it as Failed, with its traceback; the
            caller prints the message.
    """
    api = local_prefect.address()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_not_the_engine)
    with temporary_settings({PREFECT_API_URL: api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        with get_client(sync_client=True) as client:
            run_liveness.close_killed(client)
        gc_tuning.restore_threshold()
        return flow()


def _not_the_engine(record: logging.LogRecord) -> bool:
    """A log filter that hides Prefect's tracebacks of failed tasks and flows from a terminal.

    The error is raised through every task and flow to the command line, which prints it once.
    """
    return record.name not in ENGINE or record.levelno < logging.ERROR
