"""Modalities by name: those in folders of this package, and those of other installed packages."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Union

from transfer.core import plugins
from transfer.core.errors import SettingsError
from transfer.modalities.interface import InputLimits, InputSettings, InputSpec, Modality

KIND = plugins.Kind("transfer.modalities", "crosstrain.modalities", inner="modality")
DEFAULT = "image"
"""The modality of settings that name no modality."""


def names() -> list[str]:
    """Names of all modalities, sorted."""
    return plugins.names(KIND)


@cache
def get(name: str) -> Modality:
    """A modality by its name.

    Raises:
        SettingsError: there is no modality of that name, or its module defines no modality.
    """
    modality = plugins.attribute(KIND, name, "MODALITY")
    if not isinstance(modality, Modality):
        raise SettingsError(
            f"MODALITY in {plugins.module_name(KIND, name)} is a {type(modality).__name__}; "
            "expected an instance of transfer.modalities.interface.Modality: set it so"
        )
    return modality


def of(spec: InputSpec | InputSettings) -> Modality:
    """The modality that a specification, or a section ``input``, belongs to.

    Raises:
        SettingsError: there is no modality of that name.
    """
    return get(spec.modality)


def default() -> Modality:
    """The modality of settings that name no modality."""
    return get(DEFAULT)


def code(name: str) -> str:
    """Module of a modality, which is loaded by name: part of the cache key of a step that uses it.

    Raises:
        SettingsError: there is no modality of that name.
    """
    return plugins.module_name(KIND, name)


def packages(modules: Sequence[str]) -> list[str]:
    """Packages whose version changes numbers, of those modules that are modalities."""
    by_module = {module: name for name, module in plugins.modules(KIND).items()}
    used = [by_module[module] for module in modules if module in by_module]
    return sorted({package for name in used for package in get(name).packages})


def kinds(part: str) -> Any:
    """The type of a section for which each modality has its own class.

    Args:
        part: attribute of `Modality`, such as ``settings`` or ``augmentation``.

    Returns:
        The class, or the union of all classes where several modalities are installed.
    """
    return Union[tuple(getattr(get(name), part) for name in names())]  # noqa: UP007


def parsed_spec(values: Any) -> InputSpec:
    """A specification from plain JSON values, of the class of its modality.

    Raises:
        SettingsError: there is no such modality.
        ValueError: a field is unknown or a value is out of range.
    """
    if isinstance(values, InputSpec):
        return values
    return get(values.get("modality", DEFAULT)).spec.model_validate(values)


def parsed_limits(values: Any, spec: InputSpec) -> InputLimits:
    """Limits from plain JSON values, of the class of a specification's modality.

    Raises:
        ValueError: a field is unknown or a value is out of range.
    """
    return values if isinstance(values, InputLimits) else of(spec).limits.model_validate(values)
