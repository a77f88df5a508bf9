"""The deployments of `crosstrain serve`: each flow with its form, schedule and triggers."""

from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.events import DeploymentEventTrigger

from flows.export import export
from flows.ingest import ingest
from flows.monitor import monitor
from flows.promote import promote
from flows.retrain import retrain
from flows.rollback import rollback
from flows.runtime.events import PREFIX
from flows.runtime.form import filled
from flows.score import score
from transfer.settings.project import Settings
from transfer.settings.service import ServeSettings

ENTRY = "crosstrain_flows"
"""The module from which Prefect takes a flow; its docstring says why it is not the flow's own."""
ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)


def deployments(settings: Settings) -> list[RunnerDeployment]:
    """All deployments, with these settings as the initial values of their forms."""
    form = filled(settings)
    target, incoming = settings.target.label, str(settings.serve.incoming)
    crons = settings.serve
    return [
        _deployment(
            retrain,
            {"settings": form, "promote": True},
            schedule=_schedule(crons.retrain_cron, crons),
            triggers=_triggers(crons),
        ),
        _deployment(
            ingest,
            {"settings": form, "incoming": incoming, "dataset": target},
            schedule=_schedule(crons.ingest_cron, crons),
        ),
        _deployment(
            monitor,
            {
                "folder": incoming,
                "target": target,
                "settings": settings.monitor.model_dump(mode="json"),
            },
            schedule=_schedule(crons.monitor_cron, crons),
        ),
        _deployment(score, {"source": incoming, "out": "scores.parquet", "target": target}),
        _deployment(export, {"target": target, "settings": form}),
        _deployment(promote, {"target": target, "settings": form}),
        _deployment(rollback, {"target": target}),
    ]


def _deployment(flow: Flow[..., Any], parameters: dict[str, Any], **more: Any) -> RunnerDeployment:
    deployment: RunnerDeployment = flow.to_deployment(  # type: ignore[assignment]
        name=flow.name,
        parameters=parameters,
        concurrency_limit=ONE_AT_A_TIME,
        entrypoint_type=EntrypointType.MODULE_PATH,
        tags=["crosstrain"],
        **more,
    )
    deployment.entrypoint = f"{ENTRY}.{flow.name}"
    return deployment


def _schedule(cron: str | None, settings: ServeSettings) -> CronSchedule | None:
    return CronSchedule(cron=cron, timezone=settings.timezone) if cron else None


def _triggers(settings: ServeSettings) -> list[DeploymentEventTrigger]:
    enabled = {"data-changed": settings.on_new_data, "retrain-wanted": settings.on_drift}
    return [
        DeploymentEventTrigger(
            name=f"retrain on {kind}",
            expect={PREFIX + kind},
            match={"prefect.resource.id": f"{PREFIX}target.*"},
        )
        for kind, on in enabled.items()
        if on
    ]
