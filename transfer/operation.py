"""Settings of a crosstrain that is left running: when it works, and whom it tells."""

from pydantic import Field

from transfer.section import Section


class ServeSettings(Section):
    """What `crosstrain serve` offers, and when it starts by itself."""

    retrain_cron: str | None = Field("0 3 * * *", min_length=9)
    """When to retrain, as cron writes it; null never starts by itself."""


class NotifySettings(Section):
    """Whom to tell of a refusal, a promotion, drift or a failure."""

    block: str | None = None
    """A notification block of Prefect, as type/name, such as slack-webhook/team; null tells
    nobody."""
