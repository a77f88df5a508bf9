"""Every setting as a row of a table: its name, default, range and description.

`crosstrain settings` prints these rows, and docs/settings.md is generated from them.
"""

import difflib
import types
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as bounds
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from transfer.core.errors import SettingsError
from transfer.settings.project import Settings

_KINDS = {int: "whole number", float: "number", str: "text", Path: "path", bool: "true or false"}

_SIGNS = {bounds.Gt: ">", bounds.Ge: "≥", bounds.Lt: "<", bounds.Le: "≤"}


@dataclass(frozen=True)
class Row:
    """One setting."""

    name: str
    """Dotted, as in ``--set``. ``[]`` stands for each entry of a list, ``[rule=x]`` for one of that
    kind."""
    default: str
    """As YAML; empty if a value must be given."""
    range: str
    """The values that are accepted."""
    description: str
    """What it does, with its unit."""

    def as_dict(self) -> dict[str, str]:
        """Its fields, for JSON."""
        return asdict(self)


def rows(prefix: str = "") -> list[Row]:
    """Every setting, in the order of the sections, or those of one section.

    Args:
        prefix: a setting or a section, such as ``adapt.training``; empty: all.

    Raises:
        SettingsError: there is no such setting or section; the message names similar ones.
    """
    everything = [*_section("", Settings, Settings())]
    prefix = prefix.strip().strip(".")
    matching = [row for row in everything if _is_below(row.name, prefix)]
    if matching:
        return matching
    sections = {".".join(row.name.split(".")[:n]) for row in everything for n in range(1, 9)}
    near = _similar(prefix, sorted(sections))
    hint = f"did you mean {', '.join(near)}?" if near else "`crosstrain settings` lists them all"
    raise SettingsError(f"there is no setting {prefix!r}; {hint}")


def _is_below(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith((f"{prefix}.", f"{prefix}["))


def _similar(name: str, names: Sequence[str]) -> list[str]:
    """Similar names: as a whole, else those whose last part is similar."""
    if near := difflib.get_close_matches(name, names, n=3, cutoff=0.7):
        return near
    last = {full: full.rpartition(".")[2] for full in names}
    similar = difflib.get_close_matches(name.rpartition(".")[2], [*set(last.values())], n=1)
    return [full for full in names if last[full] in similar][:5]


def _section(path: str, model: type[BaseModel], values: BaseModel | None) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        key = f"{path}{field.alias or name}"
        default = getattr(values, name) if values is not None else field.get_default()
        if isinstance(default, BaseModel):
            yield from _section(f"{key}.", type(default), default)
        else:
            yield _row(key, field, default)
            yield from _entries(key, field.annotation)


def _entries(key: str, annotation: Any) -> Iterator[Row]:
    """Settings of the entries of a list of sections, for each kind of entry."""
    if get_origin(annotation) is not tuple:
        return
    entry = get_args(annotation)[0]
    kinds = get_args(entry)[0] if get_origin(entry) is Annotated else entry
    for kind in get_args(kinds) or (kinds,):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            tag = kind.model_fields.get("rule")
            place = f"{key}[rule={tag.default}]" if tag else f"{key}[]"
            for row in _section(f"{place}.", kind, None):
                if not row.name.endswith("].rule"):
                    yield row


def _row(key: str, field: FieldInfo, default: Any) -> Row:
    text = " ".join((field.description or "").split())
    shown = "" if field.is_required() and not _given(default) else yaml_of(_plain(default))
    return Row(key, shown, _range(field), text)


def _given(default: Any) -> bool:
    return default is not None and type(default).__name__ != "PydanticUndefinedType"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def yaml_of(value: Any) -> str:
    """A value as YAML, in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _range(field: FieldInfo) -> str:
    limits = _limits(field.metadata)
    options = [_kind(part, limits) for part in _alternatives(field.annotation)]
    return " or ".join(option for option in options if option)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _kind(annotation: Any, limits: str) -> str:
    if annotation is type(None):
        return "null"
    if get_origin(annotation) is Literal:
        return ", ".join(yaml_of(value) for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of {_plural(get_args(annotation)[0])}"
    name = _KINDS.get(annotation, "")
    return f"{name} {limits}".strip() if annotation in (int, float) else name


def _plural(entry: Any) -> str:
    if get_origin(entry) is Literal:
        return ", ".join(yaml_of(value) for value in get_args(entry))
    return f"{_KINDS[entry]}s" if entry in (int, float, str) else "sections"


def _limits(metadata: Sequence[Any]) -> str:
    """Bounds such as ``0 to 1``, ``≥ 0, < 1`` or ``> 0``."""
    limits: dict[str, Any] = {}
    for bound in metadata:
        for kind, sign in _SIGNS.items():
            if isinstance(bound, kind):
                limits[sign] = getattr(bound, kind.__name__.lower())
    if limits.keys() == {"≥", "≤"}:
        return f"{limits['≥']} to {limits['≤']}"
    return ", ".join(f"{sign} {value}" for sign, value in limits.items())
