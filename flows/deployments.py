"""What a served crosstrain offers: each flow with its form, its schedule and its triggers."""

from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.events import DeploymentEventTrigger

from flows.events import PREFIX
from flows.promote import promote
from flows.retrain import retrain
from flows.rollback import rollback
from transfer.settings import Settings

ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)


def deployments(settings: Settings) -> list[RunnerDeployment]:
    """All deployments, with these settings as the values that their forms begin with."""
    told = settings.model_dump(mode="json", by_alias=True)
    target = settings.target.label
    return [
        _deployment(
            retrain,
            {"settings": told, "promote": True},
            schedule=_nightly(settings),
            triggers=_triggers(settings),
        ),
        _deployment(promote, {"target": target, "settings": told}),
        _deployment(rollback, {"target": target}),
    ]


def _deployment(flow: Flow[..., Any], parameters: dict[str, Any], **more: Any) -> RunnerDeployment:
    found: RunnerDeployment = flow.to_deployment(  # type: ignore[assignment]
        name=flow.name,
        parameters=parameters,
        concurrency_limit=ONE_AT_A_TIME,
        entrypoint_type=EntrypointType.MODULE_PATH,
        tags=["crosstrain"],
        **more,
    )
    return found


def _nightly(settings: Settings) -> CronSchedule | None:
    if settings.serve.retrain_cron is None:
        return None
    return CronSchedule(cron=settings.serve.retrain_cron, timezone=settings.serve.timezone)


def _triggers(settings: Settings) -> list[DeploymentEventTrigger]:
    wanted = {"data-changed": settings.serve.on_new_data, "retrain-wanted": settings.serve.on_drift}
    return [
        DeploymentEventTrigger(
            name=f"retrain on {kind}",
            expect={PREFIX + kind},
            match={"prefect.resource.id": f"{PREFIX}target.*"},
        )
        for kind, on in wanted.items()
        if on
    ]
