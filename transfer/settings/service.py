"""Settings of `crosstrain serve`: what it starts and when, and who is notified."""

from pathlib import Path

from pydantic import Field

from transfer.core.config import Section

CRON = r"\S+( \S+){4,5}"


class ServeSettings(Section):
    """What `crosstrain serve` starts by itself, and for how long a run may take."""

    retrain_cron: str | None = Field("0 3 * * *", pattern=CRON)
    """When to retrain, as cron writes it: minute hour day month weekday; null: never."""
    ingest_cron: str | None = Field(None, pattern=CRON)
    """When to add the files in `incoming` to the target's dataset; null: never."""
    monitor_cron: str | None = Field(None, pattern=CRON)
    """When to test the files in `incoming` for drift; null: never."""
    incoming: Path = Path("incoming")
    """Folder with new files; relative to the project's folder, or absolute."""
    timezone: str = "UTC"
    """Time zone of these times, such as Europe/Berlin."""
    on_new_data: bool = True
    """Retrain when `crosstrain ingest` has added data."""
    on_drift: bool = True
    """Retrain when `crosstrain monitor` reports that it is needed."""
    at_once: int = Field(2, ge=1, le=64)
    """Largest number of runs at the same time; of each flow only one, the others wait."""
    hours: float = Field(12.0, gt=0)
    """Time after which a run is cancelled, hours."""
    attempts: int = Field(3, ge=1, le=100)
    """Largest number of starts of a run whose process is killed."""


class NotifySettings(Section):
    """Who is notified of a refusal, a promotion, drift or a failure."""

    block: str | None = Field(None, pattern=r"[a-z0-9-]+/.+")
    """A notification block of Prefect, as type/name, such as slack-webhook/team; null: nobody
    is notified."""
    of: tuple[str, ...] = ("refused", "promoted", "drift", "failed")
    """Events that are notified."""
