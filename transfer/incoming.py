"""New data on its way into a dataset: what is taken, what is rejected and why."""

from pydantic import Field

from transfer.section import Section


class IngestSettings(Section):
    """What new data may cost, and what happens once it is in."""

    max_reject_share: float = Field(0.2, ge=0, le=1)
    """Largest share of incoming files that may be unusable; above it nothing is taken."""
