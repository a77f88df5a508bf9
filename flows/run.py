"""Start a flow from a terminal."""

import logging
import os
import socket
from typing import Any

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
from flows.retrain import retrain
from transfer.result import Result
from transfer.settings import Settings

ENGINE = ("prefect.flow_runs", "prefect.task_runs")
RUNNING = {"type": {"any_": ["RUNNING"]}}


def run(settings: Settings, *, promote: bool) -> Result:
    """Run the chain in this process.

    Without ``PREFECT_API_URL`` a server is started for this process. Heartbeats are off: they cost
    a second a flow and serve only runs that nobody watches. Runs that were killed are closed.

    Raises:
        CrosstrainError: a step failed. Prefect's UI has it as Failed, with traceback; the terminal
            is left to the caller.
    """
    api = server.address()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_not_the_engine)
    with temporary_settings({PREFECT_API_URL: api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        with get_client(sync_client=True) as client:
            _close_killed_runs(client)
        with tags(_process(os.getpid())):
            return retrain(settings, promote=promote)


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
            task_run_filter=TaskRunFilter.model_validate({"state": RUNNING}),
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
