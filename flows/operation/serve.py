"""Crosstrain in operation: both servers, and a runner that starts scheduled and requested runs."""

import sys
import threading
import time
import traceback
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger

from flows.runtime import run_liveness
from flows.runtime.events import PREFIX
from transfer.settings import project as typed
from transfer.settings.service import ServeSettings

EVERY = 5.0  # seconds


def tend(settings: ServeSettings) -> None:
    """Watch the runs of all deployments, without end."""
    while True:
        try:
            with get_client(sync_client=True) as client:
                run_liveness.close_killed(client)
                run_liveness.restart_killed(client, settings)
                run_liveness.cancel_overdue(client, settings)
        except Exception:  # a server that restarts must not end the watch
            traceback.print_exc()
        time.sleep(EVERY)


def main() -> None:
    """Offer every deployment at PREFECT_API_URL until Ctrl-C. The argument is a settings file."""
    from prefect import serve

    from flows.operation.deployments import deployments

    settings = typed.load(Path(sys.argv[1]))
    threading.Thread(target=tend, args=[settings.serve], daemon=True).start()
    offered = deployments(settings)
    for deployment in offered:
        starts = [*_when(deployment, settings.serve), "on request"]
        print(f"{deployment.name:8} {', '.join(starts)}")
    sys.stdout.flush()
    serve(
        *offered,
        limit=settings.serve.at_once,
        pause_on_shutdown=False,
        print_starting_message=False,
    )


def _when(offered: RunnerDeployment, settings: ServeSettings) -> list[str]:
    """What starts a deployment by itself."""
    times = [
        f"at {entry.schedule.cron} ({settings.timezone})"
        for entry in offered.schedules or []
        if isinstance(entry.schedule, CronSchedule)
    ]
    kinds = [
        kind.removeprefix(PREFIX)
        for trigger in offered.triggers
        if isinstance(trigger, DeploymentEventTrigger)
        for kind in trigger.expect
    ]
    return times + [f"on {kind}" for kind in sorted(kinds)]


if __name__ == "__main__":
    main()
