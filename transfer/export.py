"""A model without torch: the same decisions in another format, measured before it leaves."""

from pydantic import Field

from transfer.section import Section


class ExportSettings(Section):
    """How exports are made and when one is refused."""

    margin: float = Field(0.01, ge=0, le=1)
    """Loss of accuracy that would not matter: an export whose paired interval reaches below it is
    refused."""
