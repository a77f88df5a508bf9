"""All settings of a project with their defaults; params.yaml holds those that differ."""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Union, get_args

import yaml
from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from transfer.arms.adapt import AdaptSettings
from transfer.arms.pretrain import PretrainSettings
from transfer.core import durations
from transfer.core.config import Section
from transfer.core.errors import SettingsError
from transfer.data.ingest.compare import IngestSettings
from transfer.data.quality.thresholds import KINDS, QualitySettings, of_modality
from transfer.data.splits.split import SplitSettings
from transfer.deployment.export.export import ExportSettings
from transfer.deployment.gate.rules import PromoteSettings
from transfer.deployment.monitoring.drift import MonitorSettings
from transfer.evaluation.tables import EvaluateSettings
from transfer.methods.lookup import known
from transfer.modalities import lookup
from transfer.modalities.interface import Modality
from transfer.modalities.sections import AnyAugmentation, AnyBackbone, AnyInput
from transfer.settings.dataset_name import TARGET_PATH, dataset_name
from transfer.settings.service import NotifySettings, ServeSettings

OPERATION = ("promote", "ingest", "monitor", "export", "serve", "notify")
"""Sections on which no result of the chain depends: they configure the use of a model."""

MethodSettings: Any = create_model(
    "MethodSettings",
    __base__=Section,
    __doc__="The settings of each transfer method.",
    **{name: (kind, kind()) for name, kind in known().items()},  # type: ignore[call-overload]
)


class DatasetSettings(Section):
    """A dataset: a folder of class folders, a CSV or Parquet manifest, or an .npz file."""

    path: Path
    """Relative to the project's folder, or absolute."""
    name: str = ""
    """Name in reports and in the registry; empty takes the name of the file or folder."""

    @property
    def label(self) -> str:
        """The dataset's name."""
        return dataset_name(self.path, self.name)

    @model_validator(mode="after")
    def _name_can_be_registered(self) -> Self:
        if not re.fullmatch(r"[. -]*\w[\w. -]*", self.label):
            raise ValueError(
                f"the dataset's name is {self.label!r}; expected letters, digits, '_', '-', '.' "
                "and spaces; set another with `name`"
            )
        return self


class SourceSettings(DatasetSettings):
    """The large labelled dataset to transfer from."""

    path: Path = Path("data/source")
    """Relative to the project's folder, or absolute."""
    split: SplitSettings = SplitSettings(val=0.1, test=0.0)
    """Shares held out of pretraining; a source needs no test split."""


class KnowledgeSettings(SourceSettings):
    """One more labelled dataset to transfer from."""

    path: Path
    """Relative to the project's folder, or absolute."""


class TargetSettings(DatasetSettings):
    """The small dataset that the model is for."""

    path: Path = TARGET_PATH
    """Relative to the project's folder, or absolute."""
    labels_per_class: int | None = Field(None, ge=0)
    """Labelled items per class to train on; the rest of the training split is the unlabelled
    pool. Null uses every label; 0 uses none, which needs a source with the target's classes."""


class RunSettings(Section):
    """Where a run computes, and for how long. Results do not depend on these settings, except
    for rounding, and for what the time budget leaves out."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: CUDA if there is one, else MPS, else the CPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of training. auto: bf16 on CUDA and on processors that train faster with it,
    which is measured once per machine; else fp32."""
    task_runner: Literal["threads", "dask", "ray"] = "threads"
    """Workers that train several arms at the same time: threads of this process, or worker
    processes of Dask or Ray, which need the extra of the same name."""
    cluster: str | None = None
    """Address of a running cluster of Dask (tcp://host:8786) or Ray (host:6379); null starts one
    on this machine."""
    workers: int = Field(0, ge=0, le=64)
    """Arms trained at the same time on a machine; 0: as many as the machine can use."""
    pretrain_processes: int = Field(1, ge=1, le=64)
    """Processes on this machine that share each batch of a pretraining; for a long pretraining on
    CPUs."""
    checkpoint_seconds: float = Field(10.0, gt=0)
    """Time between two checkpoints of a training, seconds."""
    budget: str | None = Field(None, json_schema_extra={"pattern": durations.PATTERN})
    """Time budget of a whole run, such as 90s, 5m, 2h or 1h30m: the most promising arms are
    trained first; the report names those that are left out. Null: no limit."""

    @field_validator("budget")
    @classmethod
    def _is_a_duration(cls, budget: str | None) -> str | None:
        if budget is not None:
            durations.seconds(budget)
        return budget

    @property
    def budget_seconds(self) -> int | None:
        """The budget in seconds."""
        return None if self.budget is None else durations.seconds(self.budget)

    @model_validator(mode="after")
    def _has_a_cluster(self) -> Self:
        if self.cluster is not None and self.task_runner == "threads":
            raise ValueError(
                f"run.cluster is {self.cluster!r}, but threads do not use a cluster; set "
                "run.task_runner=dask or ray"
            )
        return self


_DEFAULT = lookup.default()
_DEFAULT_QUALITY = of_modality(_DEFAULT.name)

if TYPE_CHECKING:
    AnyQuality = QualitySettings
else:
    AnyQuality = Union[tuple(KINDS.values())]  # noqa: UP007


def _default(kind: Callable[..., Any]) -> Any:
    """A section with the defaults of its class."""
    return kind()


def _modality(info: ValidationInfo) -> Modality:
    """The modality of the section `input`; the default one if that section is not valid."""
    return lookup.of(info.data["input"]) if "input" in info.data else _DEFAULT


def _as(kind: type[Section], given: Any) -> Any:
    """A section of a modality's class; defaults of another modality are replaced by its own."""
    if isinstance(given, dict):
        return kind.model_validate(given)
    if isinstance(given, Section) and not isinstance(given, kind) and given == type(given)():
        return kind()
    return given


def _within(field: str, error: ValidationError) -> ValidationError:
    """An error in a section, with the name of a field before the location of each fault."""
    faults = [
        {
            "type": fault["type"],
            "loc": (field, *fault["loc"]),
            "input": fault["input"],
            "ctx": fault.get("ctx", {}),
        }
        for fault in error.errors()
    ]
    return ValidationError.from_exception_data(error.title, faults)  # type: ignore[arg-type]


class Settings(Section):
    """Everything a run depends on, except the data and the code."""

    source: SourceSettings = SourceSettings()
    more_sources: tuple[KnowledgeSettings, ...] = ()
    """Further datasets, each with a `path`, to transfer from; each is evaluated by itself."""
    pretrained: tuple[str, ...] = ()
    """Backbones whose weights come with an installed package: efficientnet_lite0, and so on."""
    target: TargetSettings = TargetSettings()
    input: AnyInput = Field(_default(_DEFAULT.settings), validate_default=True)
    validate_: AnyQuality = Field(_DEFAULT_QUALITY(), alias="validate", validate_default=True)
    split: SplitSettings = SplitSettings()
    augment: AnyAugmentation = Field(_DEFAULT.augmentation(), validate_default=True)
    backbone: AnyBackbone = Field(_default(_DEFAULT.backbone), validate_default=True)
    pretrain: PretrainSettings = Field(PretrainSettings(), validate_default=True)
    adapt: AdaptSettings = AdaptSettings()
    methods: MethodSettings = MethodSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    promote: PromoteSettings = PromoteSettings()
    run: RunSettings = RunSettings()
    ingest: IngestSettings = IngestSettings()
    monitor: MonitorSettings = MonitorSettings()
    export: ExportSettings = ExportSettings()
    serve: ServeSettings = ServeSettings()
    notify: NotifySettings = NotifySettings()

    @field_validator("input", mode="before")
    @classmethod
    def _input_of_its_modality(cls, given: Any) -> Any:
        name = given.get("modality", lookup.DEFAULT) if isinstance(given, dict) else None
        if name is None:
            return given
        try:
            kind = lookup.get(name).settings
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return kind.model_validate(given)

    @field_validator("validate_", "augment", "backbone", mode="before")
    @classmethod
    def _sections_of_the_modality(cls, given: Any, info: ValidationInfo) -> Any:
        modality = _modality(info)
        kinds = {
            "validate_": of_modality(modality.name),
            "augment": modality.augmentation,
            "backbone": modality.backbone,
        }
        return _as(kinds[str(info.field_name)], given)

    @field_validator("pretrain", mode="before")
    @classmethod
    def _augment_as_the_modality(cls, section: Any, info: ValidationInfo) -> Any:
        modality = _modality(info)
        fields = dict(section) if isinstance(section, dict) else dict(iter(section))
        given = fields.get("augment", _DEFAULT.pretrain_augmentation)
        if given == _DEFAULT.pretrain_augmentation:
            return {**fields, "augment": modality.pretrain_augmentation}
        try:
            return {**fields, "augment": _as(modality.augmentation, given)}
        except ValidationError as error:
            raise _within("augment", error) from error

    @model_validator(mode="after")
    def _fit_the_modality(self) -> Self:
        modality = lookup.of(self.input)
        available = modality.available()
        if unknown := [name for name in self.pretrained if name not in available]:
            some = (
                f"some of {', '.join(available)}"
                if available
                else f"none: {modality.name} has none"
            )
            raise ValueError(f"pretrained: {unknown[0]!r} comes without weights; expected {some}")
        for name, method in iter(self.methods):
            if (changes := getattr(method, "strong", None)) is not None:
                try:
                    modality.strong_augmentation("strong", changes)
                except SettingsError as error:
                    raise ValueError(f"methods.{name}.strong: {error}") from error
        return self

    @property
    def sources(self) -> tuple[SourceSettings, ...]:
        """All labelled source datasets, the main one first."""
        return (self.source, *self.more_sources)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        labels = [source.label for source in self.sources]
        joint = [" and ".join(labels)] if self.pretrain.jointly and len(labels) > 1 else []
        names = [*labels, *joint, *self.pretrained]
        if self.target.label in names:
            raise ValueError(
                f"source and target are both named {self.target.label!r}; set source.name or "
                "target.name"
            )
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are named {repeated[0]!r}; set the `name` of one")
        return self

    def digest(self) -> str:
        """SHA-256 of the settings that results depend on: all but `run` and those of operation."""
        relevant = self.model_dump(mode="json", exclude={"run", *OPERATION}, by_alias=True)
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def load(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a settings file and apply ``section.field=value`` overrides to it.

    Raises:
        SettingsError: the file is missing, unreadable or not a YAML mapping, an override has no
            ``=``, a key is unknown or a value is out of range; the message names each.
    """
    tree = read(path)
    for override in overrides:
        _override(tree, override)
    return check(tree, str(path))


def read(path: Path) -> dict[str, Any]:
    """The content of a settings file, as a plain tree.

    Raises:
        SettingsError: the file is missing, unreadable or not a YAML mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise SettingsError(
            f"there is no {path}; run from the project folder, or name a file with --params"
        ) from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise SettingsError(f"{path} holds a {type(tree).__name__}; expected sections of settings")
    return tree


def check(tree: dict[str, Any], where: str) -> Settings:
    """Build typed settings from a plain tree.

    Raises:
        SettingsError: a key is unknown or a value is out of range; the message names each.
    """
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(fault) for fault in error.errors()]
        raise SettingsError(f"settings in {where} are not valid:\n" + "\n".join(lines)) from error


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"--set {override!r}: expected section.field=value")
    *sections, field = key.strip().split(".")
    for depth, section in enumerate(sections, start=1):
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict) or _is_value(sections[:depth]):
            raise SettingsError(f"--set {override!r}: {section!r} is a value, not a section")
    try:
        tree[field] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {override!r}: the value is not YAML: {error}") from error


def _explain(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    if isinstance(fault["input"], dict) and "error" in fault.get("ctx", {}):  # of several fields
        return f"  {where}: {fault['ctx']['error']}".replace("  : ", "  ")
    *sections, last = (str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        return f"  {where} = {fault['input']!r}: {fault['msg']}"
    names = _fields(sections)
    near = difflib.get_close_matches(last, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(names)}"
    return f"  {where}: there is no such setting{hint if names else ''}"


def _fields(sections: list[str]) -> list[str]:
    """Names of the settings in a section; empty if there is no such section."""
    model = _kind(sections)
    if not isinstance(model, type) or not issubclass(model, Section):
        return []
    return [f.alias or n for n, f in model.model_fields.items()]


def _is_value(names: list[str]) -> bool:
    """Whether this is the name of a setting; False for sections and for unknown names."""
    kind = _kind(names)
    kinds = get_args(kind) or (kind,)  # a section may be one of several
    return kind is not None and not any(
        isinstance(k, type) and issubclass(k, Section) for k in kinds
    )


def _kind(names: list[str]) -> Any:
    """The type of a setting or of a section; None if there is none of this name."""
    kind: Any = Settings
    for name in names:
        fields = getattr(kind, "model_fields", {})
        kind = next((f.annotation for n, f in fields.items() if name in (n, f.alias)), None)
    return kind
