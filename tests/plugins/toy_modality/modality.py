"""Vectors of sensor readings: a file holds numbers with commas between them; a record is (L,)."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from toy_modality.backbone import Perceptron
from transfer.core.errors import DataRefusedError, SettingsError
from transfer.modalities.backbone import Backbone, BackboneSpec
from transfer.modalities.interface import (
    Array,
    Augmentation,
    BackboneSettings,
    ColumnRule,
    Contents,
    InputLimits,
    InputSettings,
    InputSpec,
    Layout,
    Modality,
    Nouns,
    Payload,
    Thresholds,
    UnexpectedArrayError,
    Unreadable,
)
from transfer.modalities.normalisation import Normalisation
from transfer.modalities.payload import content, is_one_array, items_of

EXPECTED = "numbers, CSV files as base64, bytes or pathlib.Path"


class ToySpec(InputSpec):
    """What every item becomes."""

    modality: Literal["toy"] = "toy"
    """Name of the modality."""
    length: int = Field(ge=1)
    """Readings of an item."""


class ToySettings(InputSettings):
    """What every item is brought to."""

    modality: Literal["toy"] = "toy"
    """The kind of input."""
    length: Literal["auto"] | int = "auto"
    """Readings of an item; auto takes as many as the first item has."""


class ToyAugmentation(Augmentation):
    """How strongly training items are varied."""

    noise: float = Field(0.02, ge=0)
    """Standard deviation of the noise that is added, in the unit of the readings."""


class ToyThresholds(Thresholds):
    """What an item must be like."""

    near_duplicate_rms: float = Field(0.001, ge=0, le=1)
    """Items whose readings differ by at most this root mean square are near-duplicates."""
    min_readings: int = Field(2, ge=1)
    """Fewest readings of an item."""


class ToyBackbone(BackboneSettings):
    """The network."""

    name: Literal["perceptron"] = "perceptron"
    """Key of the backbone."""
    width: int = Field(16, ge=2)
    """Units of each layer."""


@dataclass(frozen=True)
class Readings:
    """A decoded item."""

    values: NDArray[np.float32]
    format: str


class ToyModality(Modality):
    """Sensor readings."""

    name = "toy"
    nouns = Nouns("reading", "readings")
    suffixes = frozenset({".csv"})
    array_key = "readings"
    column = "readings"
    columns: Mapping[str, str] = {"length": "int64"}
    settings = ToySettings
    spec = ToySpec
    augmentation = ToyAugmentation
    thresholds = ToyThresholds
    backbone = ToyBackbone
    pretrain_augmentation = ToyAugmentation(noise=0.05)
    summary_names = ("level", "spread")

    def specify(self, settings: ToySettings, datasets: Sequence[Contents]) -> ToySpec:
        if settings.length != "auto":
            return ToySpec(length=settings.length)
        for contents in datasets:
            if contents.array is not None:
                return ToySpec(length=contents.array[0][-1])
            for path in contents.files():
                try:
                    return ToySpec(length=len(self.decode(path.read_bytes(), InputLimits()).values))
                except Unreadable:
                    continue
        raise DataRefusedError("no dataset holds a readable item; set input.length")

    def decode(self, data: bytes, limits: InputLimits) -> Readings:
        if not data.strip():
            raise Unreadable("empty", "no readings")
        if len(data) > limits.max_bytes:
            raise Unreadable("too_large", f"{len(data)} bytes; at most {limits.max_bytes}")
        try:
            numbers = [float(part) for part in data.decode().replace("\n", ",").split(",") if part]
        except ValueError as error:
            raise Unreadable("wrong_type", f"expected numbers with commas ({error})") from error
        return self._sample(np.array(numbers, np.float32), "CSV")

    def from_array(self, array: Array) -> Readings:
        if array.dtype.kind not in "fiu" or array.ndim != 1:
            raise Unreadable("wrong_type", f"{array.dtype} {array.shape}; expected numbers (L,)")
        return self._sample(array.astype(np.float32), "array")

    def _sample(self, values: NDArray[np.float32], form: str) -> Readings:
        if not np.isfinite(values).all():
            raise Unreadable("not_finite", "a reading is NaN or infinite")
        return Readings(values, form)

    def check_array(self, array: Array, limits: InputLimits) -> None:
        del limits
        if array.dtype.kind != "f" or array.ndim != 2:
            raise UnexpectedArrayError(f"is {array.dtype} {array.shape}", "floats (N, L)")

    def describe(self, sample: Readings) -> dict[str, Any]:
        digest = hashlib.sha256(sample.values.tobytes()).hexdigest()
        return {"content": digest, "format": sample.format, "length": len(sample.values)}

    def layout(self, spec: ToySpec) -> Layout:
        return Layout((spec.length,), "float32")

    def record(self, sample: Readings, spec: ToySpec) -> Array:
        if len(sample.values) != spec.length:
            found = f"{len(sample.values)} readings"
            raise Unreadable("wrong_length", f"{found}; expected {spec.length} (input.length)")
        return sample.values

    def statistics(self, parts: Iterable[Tensor], spec: ToySpec) -> Normalisation:
        readings = torch.cat([part.double() for part in parts])
        std = readings.std(0, correction=0).clamp_min(1e-6)
        return Normalisation(mean=tuple(readings.mean(0).tolist()), std=tuple(std.tolist()), dims=2)

    def scale(self, records: Tensor, spec: ToySpec) -> Tensor:
        return records.float()

    def augment(self, batch: Tensor, policy: ToyAugmentation, generator: torch.Generator) -> Tensor:
        noise = torch.randn(batch.shape, generator=generator).to(batch)
        return batch + policy.noise * noise

    def strong(self, level: str) -> Mapping[str, Any]:
        return {"noise": 0.1 if level == "strong" else 0.2}

    def backbones(self) -> list[str]:
        return ["perceptron"]

    def backbone_module(self, name: str) -> str:
        if name != "perceptron":
            raise SettingsError(f"toy has no backbone {name!r}; expected perceptron")
        return "toy_modality.backbone"

    def build_backbone(self, backbone_spec: BackboneSpec, spec: ToySpec) -> Backbone:
        self.backbone_module(backbone_spec.name)
        return Perceptron(spec.length, **backbone_spec.options)

    def rules(self, thresholds: ToyThresholds) -> Sequence[ColumnRule]:
        enough, least = "there are enough readings", thresholds.min_readings
        return (ColumnRule(enough, "length", low=least, setting="min_readings"),)

    def fault(self, row: Mapping[str, Any], thresholds: ToyThresholds) -> tuple[str, str] | None:
        if row["length"] < (least := thresholds.min_readings):
            return "too_few", f"{row['length']} readings; validate.min_readings is {least}"
        return None

    def fingerprint(self, records: Array) -> NDArray[np.float32]:
        return records.astype(np.float32)

    def summary(self, records: Tensor) -> NDArray[np.float32]:
        found: NDArray[np.float32] = torch.stack(
            [records.mean(1), records.std(1, correction=0)], 1
        ).numpy()
        return found

    def show(
        self, axes: Any, cells: Sequence[Sequence[Array]], columns: int, *, lead: bool = False
    ) -> None:
        for row, records in enumerate(cells):
            for column, record in enumerate(records):
                left = column - 0.4 + (0.5 if lead and column else 0.0)
                places = left + 0.8 * np.linspace(0, 1, len(record))
                span = max(float(np.ptp(record)), 1e-9)
                axes.plot(places, row + 0.4 - 0.8 * (record - record.min()) / span, lw=0.7)
        axes.set_xlim(-0.5, columns - 0.5 + (0.5 if lead else 0.0))
        axes.set_ylim(len(cells) - 0.5, -0.5)

    def unpack(self, request: object) -> Payload:
        items = items_of(request, self.column, EXPECTED)
        if isinstance(items, np.ndarray):
            return self._numbers(items)
        if not items:
            raise ValueError("found no readings; expected at least one item")
        if is_one_array(items):
            return self._numbers(items)
        if all(hasattr(item, "read_bytes") for item in items):
            return items
        return [content(item, row) for row, item in enumerate(items)]

    def _numbers(self, items: object) -> Array:
        numbers = np.atleast_2d(np.asarray(items, np.float32))
        if not np.isfinite(numbers).all():
            raise ValueError("found a reading that is NaN or infinite; expected numbers")
        return numbers

    def check_batch(self, array: Array) -> None:
        if array.dtype.kind not in "fiu" or array.ndim != 2:
            raise DataRefusedError(f"found {array.dtype} {array.shape}; expected numbers (N, L)")

    def blank(self, spec: ToySpec) -> Array:
        return np.zeros((1, spec.length), np.float32)


MODALITY = ToyModality()
