"""Crosstrain in operation: both servers, and a runner that starts what is due or asked for."""

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
    """Keep an eye on the runs of all deployments, for ever."""
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
    for one in offered:
        print(f"{one.name:8} {', '.join([*_when(one, settings.serve), 'on request'])}")
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
        f"at {one.schedule.cron} ({settings.timezone})"
        for one in offered.schedules or []
        if isinstance(one.schedule, CronSchedule)
    ]
    kinds = [
        kind.removeprefix(PREFIX)
        for one in offered.triggers
        if isinstance(one, DeploymentEventTrigger)
        for kind in one.expect
    ]
    return times + [f"on {kind}" for kind in sorted(kinds)]


if __name__ == "__main__":
    main()
