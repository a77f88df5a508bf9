"""Distinguishes running flow runs from killed ones, and restarts or cancels them.

A tag of each run names its process. If that process of this machine no longer exists, the run was
killed: Prefect without a paid plan does not detect this itself if no worker watches the process.
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


def record_process(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Record this process in a tag of a run; a hook for the start of a flow."""
    tags = [tag for tag in flow_run.tags if not tag.startswith(PREFIX)]
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags=[*tags, _process(os.getpid())])


def close_killed(client: SyncPrefectClient) -> None:
    """Mark runs as crashed that are still in state running although their process has ended."""
    for flow_run in _in_state(client, "RUNNING"):
        if any(_is_gone(tag) for tag in flow_run.tags):
            _close(client, flow_run)


def _close(client: SyncPrefectClient, flow_run: FlowRun) -> None:
    killed: State[Any] = Crashed(
        message="The process was killed; run again to continue from there."
    )
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [flow_run.id]}}),
        task_run_filter=TaskRunFilter.model_validate(_state("PENDING", "RUNNING")),
    )
    for task_run in tasks:
        client.set_task_run_state(task_run.id, killed, force=True)
    client.set_flow_run_state(flow_run.id, killed)


def restart_killed(client: SyncPrefectClient, settings: ServeSettings) -> None:
    """Restart killed runs of deployments; each continues from its stored results.

    Runs that have used all attempts of the settings, or that crashed longer ago than a run may
    take, are not restarted.
    """
    since = datetime.now(UTC) - timedelta(hours=settings.hours)
    for flow_run in _in_state(client, "CRASHED"):
        recent = flow_run.state is not None and flow_run.state.timestamp > since
        if flow_run.deployment_id and recent and flow_run.run_count < settings.attempts:
            message = f"Restarted after attempt {flow_run.run_count} of {settings.attempts}."
            client.set_flow_run_state(flow_run.id, AwaitingRetry(message=message))


def cancel_overdue(client: SyncPrefectClient, settings: ServeSettings) -> None:
    """Cancel runs of deployments that take longer than allowed."""
    since = datetime.now(UTC) - timedelta(hours=settings.hours)
    for flow_run in _in_state(client, "RUNNING"):
        started = flow_run.state.timestamp if flow_run.state else None
        if flow_run.deployment_id and started and started < since:
            message = f"The run took longer than serve.hours = {settings.hours:g}."
            client.set_flow_run_state(flow_run.id, Cancelling(message=message))


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
