"""What stands in a folder is what can be named in params.yaml: a file's name is its key."""

import importlib
import pkgutil
from types import ModuleType

from transfer.errors import SettingsError


def names(package: ModuleType) -> list[str]:
    """List the public modules of a package, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_")


def load(package: ModuleType, name: str) -> ModuleType:
    """Import one module of a package by its name.

    Raises:
        SettingsError: there is no such module; the message lists those there are.
    """
    known = names(package)
    if name not in known:
        kind = package.__name__.rsplit(".", 1)[-1]
        raise SettingsError(
            f"{kind} has no {name!r}; expected one of {', '.join(known)}. "
            f"A new one is a new file in {package.__name__.replace('.', '/')}/."
        )
    return importlib.import_module(f"{package.__name__}.{name}")
