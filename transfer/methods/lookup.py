"""Every transfer method by its name: those of this folder, and those of installed packages."""

from typing import Any

from transfer.core import plugins
from transfer.core.errors import SettingsError
from transfer.training.method import Method

METHODS = plugins.Kind(
    "transfer.methods", "crosstrain.methods", helpers=("building_blocks", "lookup")
)


def known() -> dict[str, type[Method]]:
    """Every method, by name.

    Raises:
        SettingsError: a plug-in from outside this project is broken.
    """
    return {name: load(name) for name in plugins.names(METHODS)}


def load(name: str) -> type[Method]:
    """The method of this name.

    Raises:
        SettingsError: there is no method of this name, or the plug-in is broken.
    """
    method: Any = plugins.attribute(METHODS, name, "METHOD")
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise SettingsError(
            f"METHOD of {module_name(name)} is {method!r}; expected a subclass of "
            "transfer.training.method.Method"
        )
    return method


def module_name(name: str) -> str:
    """Name of a method's module, for the digest of its code.

    Raises:
        SettingsError: there is no method of this name.
    """
    return plugins.module_name(METHODS, name)
