"""The form of a flow in Prefect's UI: a few settings to fill in, and all others by name.

A flow takes `FormSettings`: whole settings from Python, or what the form gives: the values of its
fields and, under ``more``, any other settings by their dotted names.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, create_model
from pydantic.fields import FieldInfo

from transfer.core.config import Section
from transfer.core.errors import SettingsError
from transfer.settings.project import Settings, check

FIELDS = {
    "source": "source.path",
    "target": "target.path",
    "labels_per_class": "target.labels_per_class",
    "val": "split.val",
    "test": "split.test",
    "methods": "adapt.methods",
    "seeds": "adapt.seeds",
    "steps": "adapt.training.steps",
    "time_budget": "run.budget",
    "device": "run.device",
    "approval": "promote.approval",
}
"""The setting that each field of the form stands for, the most often changed first."""
MORE = "more"


def _field(name: str) -> tuple[Any, FieldInfo]:
    """Type and field of the form for a setting, with its own description, range and default."""
    *sections, last = name.split(".")
    value: Any = Settings()
    for section in sections:
        value = getattr(value, section)
    field = type(value).model_fields[last]
    return field.annotation, FieldInfo.merge_field_infos(field, default=getattr(value, last))


Form: type[BaseModel] = create_model(  # type: ignore[call-overload]
    "Form",
    __base__=Section,
    __doc__="The settings that are changed most often.",
    **{field: _field(name) for field, name in FIELDS.items()},
    **{
        MORE: (
            dict[str, Any],
            Field(
                {},
                description='Any other settings, by name, such as {"backbone.width": 32}; see '
                "`crosstrain settings`.",
            ),
        )
    },
)


def filled(settings: Settings) -> dict[str, Any]:
    """What the form holds for some settings: all fields, and under ``more`` what is no default."""
    values, defaults = _flat(_dumped(settings)), _flat(_dumped(Settings()))
    changed = {name: v for name, v in values.items() if name not in defaults or v != defaults[name]}
    more = {name: v for name, v in changed.items() if name not in FIELDS.values()}
    return {field: values[name] for field, name in FIELDS.items()} | {MORE: more}


def settings_of(given: Any) -> Any:
    """Whole settings of what a form, or Python, gives; what is neither stays as it is.

    Raises:
        ValueError: a name is unknown or a value is out of range; the message names each.
    """
    if not isinstance(given, Mapping):
        return given
    tree: dict[str, Any] = {}
    for name, value in dict(given.get(MORE) or {}).items():
        _put(tree, name, value)
    for field, value in given.items():
        if field != MORE:
            _put(tree, str(FIELDS.get(field, field)), value)
    try:
        return check(tree, "the form")
    except SettingsError as error:
        raise ValueError(str(error)) from error


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ValueError(f"{name}: {section!r} is a value, not a section")
    tree[last] = value


def _dumped(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json", by_alias=True)


def _flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Values by dotted name; a list is a value."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found


FormSettings = Annotated[
    Settings, BeforeValidator(settings_of), WithJsonSchema(Form.model_json_schema())
]
