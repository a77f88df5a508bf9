"""Which runs are at work, which only look like it, and how those go on.

A run says in a tag which process it is. Of a process of this machine that is gone, the run was
killed: Prefect without a paid plan does not notice that by itself when nothing watches the process.
"""

import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import AwaitingRetry, Cancelling, Crashed

from transfer.settings.service import ServeSettings

PREFIX = "process "


def claim(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Say that this process is at a run; a hook for a flow's start."""
    told = [tag for tag in flow_run.tags if not tag.startswith(PREFIX)]
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags=[*told, _process(os.getpid())])


def close_killed(client: SyncPrefectClient) -> None:
    """Mark as crashed what still counts as running though its process, on this machine, is gone."""
    for flow_run in _in_state(client, "RUNNING"):
        if any(_is_gone(tag) for tag in flow_run.tags):
            _close(client, flow_run)


def _close(client: SyncPrefectClient, flow_run: FlowRun) -> None:
    killed: State[Any] = Crashed(message="The process was killed; run again to go on from there.")
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [flow_run.id]}}),
        task_run_filter=TaskRunFilter.model_validate(_state("PENDING", "RUNNING")),
    )
    for task_run in tasks:
        client.set_task_run_state(task_run.id, killed, force=True)
    client.set_flow_run_state(flow_run.id, killed)


def pick_up(client: SyncPrefectClient, settings: ServeSettings) -> None:
    """Start again what a deployment started and what was killed, from where it was.

    Not after the attempts of the settings, nor what crashed longer ago than a run may take.
    """
    since = datetime.now(UTC) - timedelta(hours=settings.hours)
    for flow_run in _in_state(client, "CRASHED"):
        recent = flow_run.state is not None and flow_run.state.timestamp > since
        if flow_run.deployment_id and recent and flow_run.run_count < settings.attempts:
            told = f"Picked up after attempt {flow_run.run_count} of {settings.attempts}."
            client.set_flow_run_state(flow_run.id, AwaitingRetry(message=told))


def cancel_overdue(client: SyncPrefectClient, settings: ServeSettings) -> None:
    """Cancel what a deployment started and what takes longer than it may."""
    since = datetime.now(UTC) - timedelta(hours=settings.hours)
    for flow_run in _in_state(client, "RUNNING"):
        began = flow_run.state.timestamp if flow_run.state else None
        if flow_run.deployment_id and began and began < since:
            told = f"It took longer than serve.hours = {settings.hours:g}."
            client.set_flow_run_state(flow_run.id, Cancelling(message=told))


def _in_state(client: SyncPrefectClient, *types: str) -> Iterable[FlowRun]:
    return client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(_state(*types)))


def _state(*types: str) -> dict[str, Any]:
    return {"state": {"type": {"any_": list(types)}}}


def _process(number: int) -> str:
    return f"{PREFIX}{number} of {socket.gethostname()}"


def _is_gone(tag: str) -> bool:
    number = tag.removeprefix(PREFIX).split(" ")[0]
    if not number.isdigit() or tag != _process(int(number)):
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
