"""Start a flow from a terminal."""

import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from prefect import tags
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import State
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)
from prefect.states import Crashed

from flows import server

Result = TypeVar("Result")
ENGINE = ("prefect.flow_runs", "prefect.task_runs")
RUNNING = {"type": {"any_": ["RUNNING"]}}
UNFINISHED = {"type": {"any_": ["PENDING", "RUNNING"]}}


def run(flow: Callable[[], Result]) -> Result:
    """Call a flow in this process; Ctrl-C ends the process with exit code 130.

    Without ``PREFECT_API_URL`` a server is started for this process. Heartbeats are off: they cost
    a second a flow and serve only runs that nobody watches. Runs that were killed are closed.

    Raises:
        CrosstrainError: a step failed. Prefect's UI has it as Failed, with traceback; the terminal
            is left to the caller.
    """
    logging.getLogger("crosstrain").setLevel(logging.INFO)
    api = server.address()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_not_the_engine)
    try:
        with temporary_settings({PREFECT_API_URL: api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            with get_client(sync_client=True) as client:
                _close_killed_runs(client)
            with tags(_process(os.getpid())):
                return flow()
    except KeyboardInterrupt:
        print("crosstrain: interrupted; run again to continue from here", file=sys.stderr)
        sys.exit(130)


def _process(number: int) -> str:
    return f"process {number} of {socket.gethostname()}"


def _close_killed_runs(client: SyncPrefectClient) -> None:
    """Mark as crashed what still counts as running though its process, on this machine, is gone."""
    killed: State[Any] = Crashed(message="The process was killed; run again to go on from there.")
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"state": RUNNING}))
    for flow_run in found:
        if not any(_is_gone(tag) for tag in flow_run.tags):
            continue
        tasks = client.read_task_runs(
            flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [flow_run.id]}}),
            task_run_filter=TaskRunFilter.model_validate({"state": UNFINISHED}),
        )
        for task_run in tasks:
            client.set_task_run_state(task_run.id, killed, force=True)
        client.set_flow_run_state(flow_run.id, killed, force=True)


def _is_gone(tag: str) -> bool:
    number = tag.removeprefix("process ").split(" ")[0]
    if not number.isdigit() or tag != _process(int(number)):
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _not_the_engine(record: logging.LogRecord) -> bool:
    """Keep Prefect's tracebacks of failed tasks and flows from a terminal.

    The error goes through every task and flow up to the command line, which tells it once.
    """
    return record.name not in ENGINE or record.levelno < logging.ERROR
