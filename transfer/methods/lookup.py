"""Every transfer method by its name: those of this folder, and those of installed packages."""

from transfer.core import plugins
from transfer.training.method import Method

METHODS = plugins.Kind(
    "transfer.methods", "crosstrain.methods", helpers=("building_blocks", "lookup")
)


def known() -> dict[str, type[Method]]:
    """Every method, by name."""
    return {name: load(name) for name in plugins.names(METHODS)}


def load(name: str) -> type[Method]:
    """One method.

    Raises:
        SettingsError: there is none of that name.
    """
    found: type[Method] = plugins.load(METHODS, name).METHOD
    return found


def module_name(name: str) -> str:
    """Module of one method, for the digest of its code.

    Raises:
        SettingsError: there is none of that name.
    """
    return plugins.module_name(METHODS, name)
