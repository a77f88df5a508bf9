"""Settings of a crosstrain that is left running: when it works, and whom it tells."""

from pathlib import Path

from pydantic import Field

from transfer.core.config import Section

CRON = r"\S+( \S+){4,5}"


class ServeSettings(Section):
    """What `crosstrain serve` starts by itself, and how long it lets it run."""

    retrain_cron: str | None = Field("0 3 * * *", pattern=CRON)
    """When to retrain, as cron writes it: minute hour day month weekday; null never."""
    ingest_cron: str | None = Field(None, pattern=CRON)
    """When to ingest what lies in `incoming` into the target's dataset; null never."""
    monitor_cron: str | None = Field(None, pattern=CRON)
    """When to hold what lies in `incoming` against the champion; null never."""
    incoming: Path = Path("incoming")
    """Folder that those read; relative to the project, or absolute."""
    timezone: str = "UTC"
    """Of these times, such as Europe/Berlin."""
    on_new_data: bool = True
    """Retrain when `crosstrain ingest` has added data."""
    on_drift: bool = True
    """Retrain when `crosstrain monitor` asks for it."""
    at_once: int = Field(2, ge=1, le=64)
    """Runs at work at the same time; of one kind there is one at a time, the others wait."""
    hours: float = Field(12.0, gt=0)
    """How long a run may take before it is cancelled."""
    attempts: int = Field(3, ge=1, le=100)
    """How often a run is started whose process dies."""


class NotifySettings(Section):
    """Whom to tell of a refusal, a promotion, drift or a failure."""

    block: str | None = Field(None, pattern=r"[a-z0-9-]+/.+")
    """A notification block of Prefect, as type/name, such as slack-webhook/team; null tells
    nobody."""
    of: tuple[str, ...] = ("refused", "promoted", "drift", "failed")
    """What to tell."""
