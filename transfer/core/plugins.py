"""Plug-in lookup: a module's file name is its key in the settings, wherever in its folder it lies.

A package outside this project adds a module of its own by an entry point in the group of the kind,
such as ``crosstrain.methods``: its name is the key, its value the module.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from transfer.core.errors import SettingsError


@dataclass(frozen=True)
class Kind:
    """One kind of plug-in."""

    package: str
    """Folder of the modules that come with this project; folders in it are families."""
    group: str
    """Entry points of packages outside this project."""
    helpers: tuple[str, ...] = ()
    """Folders of the package that hold no plug-ins."""
    inner: str = ""
    """For a kind whose plug-ins are folders: the module in each that is the plug-in, whose key is
    then the folder's name. Modules beside the folders are no plug-ins."""

    @property
    def label(self) -> str:
        """What messages call a set of them."""
        return self.group.rsplit(".", maxsplit=1)[-1]


def names(kind: Kind) -> list[str]:
    """Keys of all plug-ins of a kind, sorted. None of them is imported."""
    return sorted(modules(kind))


def modules(kind: Kind) -> dict[str, str]:
    """Module of every plug-in of a kind, by its key. None of them is imported.

    A module of this project goes before an entry point of the same name.
    """
    package = importlib.import_module(kind.package)
    inside = [m for path in package.__path__ for m in _inside(Path(path), kind.package, kind)]
    place = -2 if kind.inner else -1
    return {**_outside(kind.group), **{m.split(".")[place]: m for m in inside}}


def module_name(kind: Kind, name: str) -> str:
    """Full name of the module of one plug-in.

    Raises:
        SettingsError: there is no such plug-in; the message lists those there are.
    """
    known = modules(kind)
    if name not in known:
        raise SettingsError(
            f"{kind.label} has no {name!r}; expected one of {', '.join(sorted(known))}. A new one "
            f"is a new {'folder' if kind.inner else 'file'} in {kind.package.replace('.', '/')}/, "
            "or an entry point in the group "
            f"{kind.group} of an installed package."
        )
    return known[name]


def load(kind: Kind, name: str) -> ModuleType:
    """Import the module of one plug-in.

    Raises:
        SettingsError: there is no such plug-in; the message lists those there are.
    """
    return importlib.import_module(module_name(kind, name))


def _inside(folder: Path, package: str, kind: Kind) -> list[str]:
    if kind.inner:
        folders = [m.name for m in pkgutil.iter_modules([str(folder)]) if m.ispkg]
        return [f"{package}.{name}.{kind.inner}" for name in folders if name[0] != "_"]
    found = []
    for module in pkgutil.iter_modules([str(folder)]):
        full = f"{package}.{module.name}"
        if module.name.startswith("_") or module.name in kind.helpers:
            continue
        if module.ispkg:
            found += _inside(folder / module.name, full, kind)
        else:
            found.append(full)
    return found


@cache
def _outside(group: str) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=group)}
