"""Does new data come from where the model's own data came from?"""

from pydantic import Field

from transfer.section import Section


class MonitorSettings(Section):
    """When new data counts as drifted, and what follows."""

    level: float = Field(0.01, gt=0, lt=1)
    """Chance of an alarm where nothing has drifted, over all tests together."""
