"""The base of every group of settings."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of settings in which an unknown key is an error.

    A section lives beside the code it configures; `transfer.settings.project` composes them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
