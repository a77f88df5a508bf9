"""Crosstrain in operation: both servers, and a runner that starts what is due or asked for."""

import sys
import threading
import time
import traceback
from pathlib import Path

from prefect.client.orchestration import get_client

from flows import alive
from transfer import settings as typed
from transfer.operation import ServeSettings

EVERY = 5.0  # seconds


def tend(settings: ServeSettings) -> None:
    """Keep an eye on the runs of all deployments, for ever."""
    while True:
        try:
            with get_client(sync_client=True) as client:
                alive.close_killed(client)
                alive.pick_up(client, settings)
                alive.cancel_overdue(client, settings)
        except Exception:  # a server that restarts must not end the watch
            traceback.print_exc()
        time.sleep(EVERY)


def main() -> None:
    """Offer every deployment at PREFECT_API_URL until Ctrl-C. The argument is a settings file."""
    from prefect import serve

    from flows.deployments import deployments

    settings = typed.load(Path(sys.argv[1]))
    threading.Thread(target=tend, args=[settings.serve], daemon=True).start()
    offered = deployments(settings)
    for one in offered:
        print(f"{one.name:8} {_when(settings.serve) if one.name == 'retrain' else 'on request'}")
    sys.stdout.flush()
    serve(
        *offered,
        limit=settings.serve.at_once,
        pause_on_shutdown=False,
        print_starting_message=False,
    )


def _when(settings: ServeSettings) -> str:
    schedule = [f"at {settings.retrain_cron} ({settings.timezone})"] * bool(settings.retrain_cron)
    events = ["on new data"] * settings.on_new_data + ["on drift"] * settings.on_drift
    return ", ".join([*schedule, *events, "on request"])


if __name__ == "__main__":
    main()
