"""The interface of a modality: everything that this project needs from a kind of input.

A modality is a folder of `transfer.modalities` with a module ``modality`` in it, or a module of
another installed package named by an entry point in the group ``crosstrain.modalities``. That
module sets ``MODALITY`` to an instance of a subclass of `Modality`. Code outside the folder uses
only the methods below.

The invariant: an item becomes one record, an array whose shape and type the specification decides
(`Modality.layout`). The records of a dataset are stored in one file; a batch of them is one tensor.

From a file to a network, an item passes ``decode`` (or ``from_array``), ``record``, and in batches
``scale``, ``augment``, ``mix``, ``to_input`` and ``lay_out``.

Shapes: N items, K classes, D features, S numbers in a summary.
"""

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from torch import Tensor, nn

from transfer.core.config import Section
from transfer.core.errors import DataRefusedError, SettingsError
from transfer.core.plugins import Kind
from transfer.modalities.backbone import Backbone, BackboneSpec
from transfer.modalities.normalisation import Normalisation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]
Strength = Literal["strong", "stronger"]
Payload = Array | list[Any]
"""What a request holds: one array, the first axis of which counts items, or a list of items, each
an array, bytes of a file, or the `Path` of one."""


class Unreadable(DataRefusedError):  # noqa: N818 (about one item; it seldom ends a run)
    """One item cannot be used.

    ``reason`` is a stable code. From the contents: empty, too_large, wrong_type, truncated,
    not_finite, out_of_range, unreadable, and those of the modality. From the file: permission,
    missing, symlink.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason} ({detail})")
        self.reason, self.detail = reason, detail


class UnexpectedArrayError(DataRefusedError):
    """The array of items of an .npz file is not what the modality reads."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"{found}; expected {expected}")
        self.found, self.expected = found, expected


class InputSpec(Section):
    """What every item is converted to before a network receives it; stored with every model.

    A modality's own class gives ``modality`` its name as the only value and the default.
    """

    modality: str
    """Name of the modality."""


class InputLimits(Section):
    """Upper limits for the size of an item, checked before it is decoded."""

    max_bytes: int = Field(50 * 2**20, ge=1)
    """Largest file of an item, bytes."""
    max_array_bytes: int = Field(4 * 2**30, ge=1)
    """Largest .npz file once unpacked, bytes."""


class InputSettings(Section):
    """The section ``input`` of the settings: the modality, and what its items are converted to.

    A modality's own class gives ``modality`` its name as the only value and the default, and
    ``limits`` its own class of limits.
    """

    modality: str
    """Name of the modality."""
    limits: InputLimits = InputLimits()
    """Items beyond these are rejected before they are decoded."""


class Augmentation(Section):
    """The section ``augment`` of the settings: how strongly training items are varied.

    A modality's own class has a field for each variation that makes sense for it, and no other:
    an unknown key is an error, so that no setting is without effect.
    """


class Thresholds(Section):
    """The fields that a modality adds to the section ``validate`` of the settings."""

    near_duplicate_rms: float = Field(0.02, ge=0, le=1)
    """Items whose fingerprints differ by at most this root mean square are near-duplicates."""


class BackboneSettings(Section):
    """The section ``backbone`` of the settings: what is trained on the source.

    A modality's own class adds fields, which become the options of the backbone.
    """

    name: str
    """Key of a backbone of the modality."""

    @property
    def backbone_spec(self) -> BackboneSpec:
        """The backbone's record."""
        return BackboneSpec(name=self.name, options=self.model_dump(exclude={"name"}))


@dataclass(frozen=True)
class Layout:
    """Shape and type of a record."""

    shape: tuple[int, ...]
    """Shape of one item's record."""
    dtype: str
    """NumPy's name of the type, such as uint8."""

    @property
    def size(self) -> int:
        """Bytes of a record."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Contents:
    """What `Modality.specify` may look at in a dataset before it is read."""

    files: Callable[[], Iterable[Path]]
    """The files of its items; none for an .npz file."""
    array: tuple[tuple[int, ...], str] | None = None
    """Shape and type of an .npz file's array of items, from its header; None where there is none,
    or the header cannot be read."""


@dataclass(frozen=True)
class ColumnRule:
    """What validation expects of one of the modality's own columns: a range, or a set of values."""

    what: str
    """The expectation in words, for reports."""
    column: str
    low: float | None = None
    high: float | None = None
    among: tuple[str, ...] | None = None
    """The values that are accepted, instead of a range."""
    setting: str = ""
    """The fields of the thresholds that change the expectation; '' where no field does."""
    tolerated: str = ""
    """The field of the thresholds with the share or number of items that may fail; '' where no item
    may."""
    unit: str = ""
    """Written after the numbers; begins with a space."""


@dataclass(frozen=True)
class Pretrained:
    """A network whose weights come with an installed package."""

    source: str
    """The network's name as a knowledge source."""
    backbone_spec: BackboneSpec
    state: Mapping[str, Tensor]
    """Tensors of the backbone, by the backbone's own names."""
    normal: Normalisation
    """How inputs were standardised when it was trained."""


@dataclass(frozen=True)
class Nouns:
    """What messages and reports call an item of the modality."""

    one: str
    many: str


class Modality(ABC):
    """A kind of input; an instance holds no state."""

    name: ClassVar[str]
    """Key of the modality; the value of ``input.modality``."""
    nouns: ClassVar[Nouns]
    suffixes: ClassVar[frozenset[str]]
    """Ends of the names of its files, lower case, with the dot."""
    array_key: ClassVar[str]
    """Name of the array of items in an .npz file."""
    column: ClassVar[str]
    """Name of the column of items in a request to a served model."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages, in addition to those of every step, whose version can change records or numbers."""
    columns: ClassVar[Mapping[str, str]] = {}
    """This modality's own columns of the manifest, each with its pandas type."""

    settings: ClassVar[type[InputSettings]]
    spec: ClassVar[type[InputSpec]]
    limits: ClassVar[type[InputLimits]] = InputLimits
    augmentation: ClassVar[type[Augmentation]]
    thresholds: ClassVar[type[Thresholds]] = Thresholds
    backbone: ClassVar[type[BackboneSettings]]
    backbone_plugins: ClassVar[Kind | None] = None
    """Where other packages may add backbones; None where they may not."""
    pretrain_augmentation: ClassVar[Augmentation]
    """How a source is varied while a backbone is trained on it, by default."""

    # --- from a dataset to records ------------------------------------------------------------

    @abstractmethod
    def specify(self, settings: Any, datasets: Sequence[Contents]) -> InputSpec:
        """Decide what every item is converted to; open choices are made from the datasets.

        Args:
            settings: the section ``input``, of this modality's class.
            datasets: all datasets of a run.
        """

    @abstractmethod
    def decode(self, data: bytes, limits: Any) -> Any:
        """Decode the contents of a file to a sample, this modality's own type of a decoded item.

        Raises:
            Unreadable: the contents cannot be used.
        """

    @abstractmethod
    def from_array(self, array: Array) -> Any:
        """Take a row of an .npz file's array, or an array of a request, as a sample.

        Raises:
            Unreadable: the array cannot be used.
        """

    @abstractmethod
    def check_array(self, array: Array, limits: Any) -> None:
        """Check the array of items of an .npz file as a whole.

        Raises:
            UnexpectedArrayError: its type, shape or range is not what the modality reads.
        """

    @abstractmethod
    def describe(self, sample: Any) -> dict[str, Any]:
        """The manifest's columns of a sample.

        Returns:
            ``content``, a hash that two items share exactly if they are copies of each other;
            ``format`` as stored, ``array`` for a sample that is not from a file; and `columns`.
        """

    def effort(self, sample: Any) -> int:
        """Number of values that were decoded for a sample; many values make threads worth using."""
        del sample
        return 1

    @abstractmethod
    def layout(self, spec: Any) -> Layout:
        """Shape and type of every record."""

    @abstractmethod
    def record(self, sample: Any, spec: Any) -> Array:
        """Turn a sample into its record, which has the shape and type of `layout`.

        Raises:
            Unreadable: the sample does not fit the specification.
        """

    # --- from records to a network ------------------------------------------------------------

    @abstractmethod
    def statistics(self, parts: Iterable[Tensor], spec: Any) -> Normalisation:
        """Measure the statistics of records, batch by batch, to standardise inputs with them.

        Args:
            parts: batches of records (N, ...), as stored.
            spec: of the records.
        """

    @abstractmethod
    def scale(self, records: Tensor, spec: Any) -> Tensor:
        """Convert records (N, ...) as stored to what `augment` and `mix` take; deterministic."""

    def augment(self, batch: Tensor, policy: Any, generator: torch.Generator) -> Tensor:
        """Vary each item of a batch that `scale` returned; the shape stays the same.

        Args:
            batch: (N, ...).
            policy: of this modality's class of augmentation.
            generator: a CPU generator; the same state gives the same batch.
        """
        del policy, generator
        return batch

    def mix(
        self, batch: Tensor, targets: Tensor, policy: Any, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Blend items of a batch and their targets (N, K), where the policy requires it."""
        del policy, generator
        return batch, targets

    def strong_augmentation(self, level: Strength, changes: Mapping[str, Any]) -> Augmentation:
        """How the strong view of unlabelled items is varied.

        Args:
            level: how strongly, as the method requires.
            changes: fields that replace those of the modality's own policy of this level.

        Raises:
            SettingsError: there is no such field, or a value is out of range.
        """
        try:
            return self.augmentation.model_validate({**self.strong(level), **changes})
        except ValidationError as error:
            fields = ", ".join(self.augmentation.model_fields) or "none"
            raise SettingsError(
                f"the strong augmentation {dict(changes)} does not fit the modality {self.name}: "
                f"{_first_error(error)}; its fields are {fields}"
            ) from error

    def strong(self, level: Strength) -> Mapping[str, Any]:
        """Fields of the strong augmentation of this modality, without those at their default."""
        del level
        return {}

    def to_input(self, batch: Tensor, normal: Normalisation, spec: Any) -> Tensor:
        """Convert the output of `scale` or `augment` to a network's input; an export contains it
        too."""
        del spec
        return normal.apply(batch)

    def unscale(self, batch: Tensor, spec: Any) -> Tensor:
        """Convert the output of `scale` or `augment` back to records as stored, to look at."""
        layout = self.layout(spec)
        return batch.to(getattr(torch, layout.dtype))

    def lay_out(self, inputs: Tensor) -> Tensor:
        """Put a batch of inputs into the memory order in which networks are fastest."""
        return inputs

    def lay_out_network(self, network: nn.Module) -> nn.Module:
        """Put a network's weights into the memory order in which it is fastest, in place."""
        return network

    # --- networks -----------------------------------------------------------------------------

    @abstractmethod
    def backbones(self) -> list[str]:
        """Keys of all backbones of this modality, sorted."""

    def trainable(self) -> list[str]:
        """Keys of the backbones that are trained on a source here; others come with weights."""
        return self.backbones()

    @abstractmethod
    def backbone_module(self, name: str) -> str:
        """Full name of the module that makes a backbone: part of a cache key.

        Raises:
            SettingsError: there is no such backbone.
        """

    @abstractmethod
    def build_backbone(self, backbone_spec: BackboneSpec, spec: Any) -> Backbone:
        """Make a backbone, with weights drawn from torch's global generator.

        Raises:
            SettingsError: there is no such backbone.
            TypeError: it takes no such option.
        """

    def available(self) -> dict[str, str | None]:
        """Every network that comes with weights: None where it can be used, else what to do."""
        return {}

    def pretrained(self, name: str, spec: Any, settings: Any) -> Pretrained:
        """A network whose weights come with an installed package.

        Args:
            name: one of `available`.
            spec: of the target.
            settings: the section ``input``.

        Raises:
            SettingsError: no such network comes with weights.
            ModelFileError: the package is not installed, or its file has another digest.
        """
        del spec, settings
        raise SettingsError(f"{name!r} comes without weights; no {self.nouns.one} network has any")

    def pretrained_options(self, settings: Any) -> dict[str, Any]:
        """Fields of the section ``input`` that change a pretrained network: part of a cache key."""
        del settings
        return {}

    def exportable(self, backbone: Backbone, spec: Any) -> Backbone:
        """A backbone without what other formats cannot express, with the same results.

        Args:
            backbone: a copy, which may be changed.
            spec: of the items.
        """
        del spec
        return backbone

    # --- data quality, duplicates, drift --------------------------------------------------------

    def rules(self, thresholds: Any) -> Sequence[ColumnRule]:
        """What validation expects of this modality's columns."""
        del thresholds
        return ()

    def fault(self, row: Mapping[str, Any], thresholds: Any) -> tuple[str, str] | None:
        """Reason and detail for which training would refuse an item of new data, or None.

        Args:
            row: of the manifest.
            thresholds: the section ``validate``.
        """
        del row, thresholds
        return None

    @abstractmethod
    def fingerprint(self, records: Array) -> NDArray[np.float32]:
        """Numbers (N, D) of records, close to each other for items that are nearly the same."""

    @abstractmethod
    def summary(self, records: Tensor) -> NDArray[np.float32]:
        """Numbers (N, S) that people understand, monitored for drift in addition to features."""

    summary_names: ClassVar[tuple[str, ...]]
    """Names of the S numbers."""

    # --- showing and serving --------------------------------------------------------------------

    @abstractmethod
    def show(
        self, axes: "Axes", cells: Sequence[Sequence[Array]], columns: int, *, lead: bool = False
    ) -> None:
        """Draw rows of records so that record (r, c) is centred on (c, r), one unit wide and high.

        Args:
            axes: where to draw, without ticks.
            cells: rows of up to ``columns`` records; missing cells stay empty.
            columns: records per row.
            lead: set the first column apart by half a unit.
        """

    @abstractmethod
    def unpack(self, request: object) -> Payload:
        """Take the items out of a request to a served model.

        Args:
            request: a frame with the column `column`, a series, a list, or an array.

        Raises:
            ValueError: it holds no items of this modality.
        """

    def sent(self, content: bytes) -> Any:
        """The content of a file as it is written in a request: a JSON value that `unpack` reads."""
        return base64.b64encode(content).decode()

    @abstractmethod
    def check_batch(self, array: Array) -> None:
        """Check an array of items (N, ...) that a program passes to a model.

        Raises:
            DataRefusedError: its type or shape is not what the modality reads.
        """

    @abstractmethod
    def blank(self, spec: Any) -> Array:
        """One item (1, ...) without content, as an array of a request: a probe."""


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
