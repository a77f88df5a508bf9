"""Plug-in lookup: a module's file name is its key in the settings, wherever in its folder it lies.

A package outside this project adds a module of its own by an entry point in the group of the kind,
such as ``crosstrain.methods``: its name is the key, its value the module.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

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
    outside = {name: point.value for name, point in _outside(kind.group).items()}
    place = -2 if kind.inner else -1
    return {**outside, **{m.split(".")[place]: m for m in inside}}


def entry_point(kind: Kind, name: str) -> EntryPoint | None:
    """The entry point of a plug-in from outside this project; None for the project's own.

    Raises:
        SettingsError: there is no such plug-in; the message lists those there are.
    """
    point = _outside(kind.group).get(name)
    return point if point and module_name(kind, name) == point.value else None


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
            f"or an entry point in the group {kind.group} of an installed package: if a package "
            f"offers {name!r}, install it."
        )
    return known[name]


def load(kind: Kind, name: str) -> ModuleType:
    """Import the module of one plug-in.

    Raises:
        SettingsError: there is no such plug-in, and the message lists those there are; or one from
            outside this project cannot be imported.
    """
    module = module_name(kind, name)
    if (point := entry_point(kind, name)) is None:
        return importlib.import_module(module)
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise SettingsError(
            f"{_offered(point)} cannot be imported: {type(error).__name__}: {error}; expected the "
            "name of an importable module: mend the package, or uninstall it"
        ) from error


def attribute(kind: Kind, name: str, wanted: str) -> Any:
    """What the module of one plug-in offers under an agreed name, such as ``METHOD``.

    Raises:
        SettingsError: there is no such plug-in, it cannot be imported, or its module lacks that
            name.
    """
    module = load(kind, name)
    if hasattr(module, wanted):
        return getattr(module, wanted)
    point = entry_point(kind, name)
    raise SettingsError(
        f"{_offered(point) if point else module.__name__} has no {wanted}; expected the module to "
        f"set it, as those in {kind.package.replace('.', '/')}/ do"
    )


def _offered(point: EntryPoint) -> str:
    package = point.dist.name if point.dist else "an unnamed package"
    return f"the plug-in {point.name!r} of the package {package} ({point.group}: {point.value})"


def _inside(folder: Path, package: str, kind: Kind) -> list[str]:
    if kind.inner:
        folders = [m.name for m in pkgutil.iter_modules([str(folder)]) if m.ispkg]
        return [f"{package}.{name}.{kind.inner}" for name in folders if name[0] != "_"]
    plugin_modules = []
    for module in pkgutil.iter_modules([str(folder)]):
        full = f"{package}.{module.name}"
        if module.name.startswith("_") or module.name in kind.helpers:
            continue
        if module.ispkg:
            plugin_modules += _inside(folder / module.name, full, kind)
        else:
            plugin_modules.append(full)
    return plugin_modules


@cache
def _outside(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
