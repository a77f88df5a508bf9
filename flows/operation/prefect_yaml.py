"""prefect.yaml, for work pools: what `crosstrain serve` offers, as Prefect's own file."""

import yaml
from prefect.client.schemas.schedules import CronSchedule

from flows.operation.deployments import ONE_AT_A_TIME, deployments
from transfer.settings.project import Settings

HEAD = """\
# For work pools; `crosstrain serve` needs none of this. After a change of params.yaml, write it
# again: crosstrain deployments > prefect.yaml
#   prefect work-pool create crosstrain --type process
#   prefect deploy --all
#   prefect worker start --pool crosstrain
"""


def text(settings: Settings) -> str:
    """Content of prefect.yaml, with a deployment of each flow.

    Every flow is named by its module in the installed package, so that a project needs no code.
    """
    offered = []
    for deployment in deployments(settings):
        crons = [
            s.schedule for s in deployment.schedules or [] if isinstance(s.schedule, CronSchedule)
        ]
        schedules = [{"cron": cron.cron, "timezone": cron.timezone} for cron in crons]
        triggers = [t.model_dump(mode="json", exclude_defaults=True) for t in deployment.triggers]
        offered.append(
            {
                "name": deployment.name,
                "entrypoint": deployment.entrypoint,
                "parameters": deployment.parameters,
                "schedules": schedules,
                "triggers": [{"type": "event", **t} for t in triggers],
                "concurrency_limit": ONE_AT_A_TIME.model_dump(mode="json", exclude_none=True),
                "tags": deployment.tags,
                "work_pool": {"name": "crosstrain"},
            }
        )
    pull = [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $PWD }}"}}]
    tree = {"name": "crosstrain", "prefect-version": None, "pull": pull, "deployments": offered}
    return HEAD + yaml.safe_dump(tree, sort_keys=False, width=100, allow_unicode=True)
