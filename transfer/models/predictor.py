"""From raw files or arrays to calibrated class probabilities; needs only a model folder.

The card states which inputs the model expects; they are decoded as in training.

Shapes: N items, each with one record of the shape that the card's specification decides, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator
from torch import Tensor

from transfer.core.config import Section
from transfer.core.errors import CrosstrainError, DataRefusedError, ModelFileError, SettingsError
from transfer.data.storage.tensor_store import Records
from transfer.modalities import lookup
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.interface import InputLimits, InputSpec, Modality, Payload, Unreadable
from transfer.modalities.normalisation import Normalisation
from transfer.models import checkpoint
from transfer.models.network import Network, backbone_names, backbones, build


class Member(Section):
    """One arm in a model: its networks' class scores are averaged, then calibrated."""

    arm: str
    weight: float
    temperature: float
    networks: int
    steps: int = 0
    """Optimiser steps that each network took."""
    backbone_spec: BackboneSpec
    """The backbone of its networks."""
    normal: Normalisation
    """How its inputs are standardised."""


class Card(Section):
    """What a model expects and what it was made from."""

    format: Literal[2] = 2
    target: str
    class_names: tuple[str, ...]
    spec: SerializeAsAny[InputSpec]
    limits: SerializeAsAny[InputLimits]
    members: tuple[Member, ...]
    data: dict[str, str] = Field(default_factory=dict)
    """Name of each dataset to its md5; empty for a single arm, which is an intermediate."""
    settings_digest: str = ""

    @field_validator("spec", mode="before")
    @classmethod
    def _parse_spec(cls, value: Any) -> InputSpec:
        try:
            return lookup.parsed_spec(value)
        except SettingsError as error:
            raise ValueError(str(error)) from error

    @field_validator("limits", mode="before")
    @classmethod
    def _parse_limits(cls, value: Any, info: ValidationInfo) -> Any:
        return lookup.parsed_limits(value, info.data["spec"]) if "spec" in info.data else value


@dataclass(frozen=True)
class Predictor:
    """A loaded model: a weighted sum of its members' calibrated probabilities."""

    card: Card
    networks: tuple[tuple[Network, ...], ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes in the order of the columns of every prediction."""
        return self.card.class_names

    @property
    def modality(self) -> Modality:
        """The kind of its inputs."""
        return lookup.of(self.card.spec)

    def member_logits(self, records: Records) -> Tensor:
        """Class scores (members, N, K) of records (N, ...) that fit the card."""
        pairs, spec = zip(self.networks, self.card.members, strict=True), self.card.spec
        return torch.stack([committee_logits(n, records, m.normal, spec) for n, m in pairs])

    def predict_records(self, records: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities (N, K) of records (N, ...) of the card's layout."""
        scores = self.member_logits(torch.from_numpy(np.ascontiguousarray(records)))
        temperatures = torch.tensor([m.temperature for m in self.card.members]).view(-1, 1, 1)
        weights = torch.tensor([m.weight for m in self.card.members]).view(-1, 1, 1)
        mixed: NDArray[np.float32] = (weights * (scores / temperatures).softmax(-1)).sum(0).numpy()
        return mixed

    def predict_arrays(self, arrays: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities (N, K) of one array of items (N, ...), as the modality reads them.

        Raises:
            DataRefusedError: the array has another type or shape than the modality reads.
        """
        arrays = np.asarray(arrays)
        self.modality.check_batch(arrays)
        return self._predict([self._fitted(array) for array in arrays])

    def predict_bytes(self, files: Sequence[bytes]) -> NDArray[np.float32]:
        """Probabilities (N, K) of the contents of files.

        Raises:
            DataRefusedError: a file cannot be decoded; the message states which and why.
        """
        return self._predict([self._decoded(data, f"item {i}") for i, data in enumerate(files)])

    def predict_files(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """Probabilities (N, K) of files.

        Raises:
            DataRefusedError: a file cannot be read or decoded; the message states which and why.
        """
        return self._predict([self._decoded(_read(Path(p)), str(p)) for p in paths])

    def predict_payload(self, items: Payload) -> NDArray[np.float32]:
        """Probabilities (N, K) of the items of a request, see `Modality.unpack`.

        Raises:
            DataRefusedError: an item cannot be read or decoded.
        """
        if isinstance(items, np.ndarray):
            return self.predict_arrays(items)
        if isinstance(items[0], np.ndarray):
            return self._predict([self._fitted(item) for item in items])
        if all(isinstance(item, Path) for item in items):
            return self.predict_files(items)
        return self.predict_bytes(items)

    def _fitted(self, array: NDArray[Any]) -> NDArray[Any]:
        sample = self.modality.from_array(array)
        return self.modality.record(sample, self.card.spec)

    def _decoded(self, data: bytes, name: str) -> NDArray[Any]:
        try:
            sample = self.modality.decode(data, self.card.limits)
            return self.modality.record(sample, self.card.spec)
        except Unreadable as error:
            readable = f"a readable {self.modality.nouns.one} file"
            raise DataRefusedError(f"{name}: {error}; expected {readable}") from error

    def _predict(self, records: list[NDArray[Any]]) -> NDArray[np.float32]:
        if not records:
            return np.empty((0, len(self.class_names)), np.float32)
        return self.predict_records(np.stack(records))


def committee_logits(
    networks: Sequence[Network], records: Records, normal: Normalisation, spec: InputSpec
) -> Tensor:
    """Mean class scores (N, K) of networks on records (N, ...), on the CPU."""
    parts, modality = [], lookup.of(spec)
    with torch.inference_mode():
        for part in records.split(networks[0].backbone.chunk):
            inputs = modality.lay_out(modality.to_input(modality.scale(part, spec), normal, spec))
            parts.append(torch.stack([network(inputs) for network in networks]).mean(0))
    return torch.cat(parts)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataRefusedError(f"{path} cannot be read: {error.strerror}") from error


def tensor_name(member: int, network: int, name: str) -> str:
    """Key of a network's tensor in a model file."""
    return f"{member}.{network}.{name}"


def load(folder: Path) -> Predictor:
    """Load a model folder: ``card.json`` and ``weights.safetensors``.

    Raises:
        ModelFileError: a file is missing, damaged, of another version, or does not fit the card;
            or a backbone is a plug-in that is not installed.
    """
    card, state = checkpoint.load_card(folder, Card), checkpoint.load_state(folder)
    members = tuple(
        tuple(_network(card, state, m, n, folder) for n in range(member.networks))
        for m, member in enumerate(card.members)
    )
    return Predictor(card, members)


def _check_installed(backbone_spec: BackboneSpec, modality: Modality, folder: Path) -> None:
    if missing := sorted(backbone_names(backbone_spec) - set(backbones(modality.name))):
        kind = modality.backbone_plugins
        group = f" in the group {kind.group}" if kind else ""
        raise ModelFileError(
            f"the weights in {folder} do not fit its card while the backbone {missing[0]!r} is "
            "missing: it is a plug-in that is not installed here; expected a package with an entry "
            f"point of that name{group}: install the one that the model was trained with"
        )


def _network(
    card: Card, state: dict[str, Tensor], member: int, number: int, folder: Path
) -> Network:
    _check_installed(card.members[member].backbone_spec, lookup.of(card.spec), folder)
    prefix = tensor_name(member, number, "")
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    backbone_spec = card.members[member].backbone_spec
    try:
        network = build(backbone_spec, spec=card.spec, classes=len(card.class_names), seed=0)
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, CrosstrainError) as error:
        raise ModelFileError(f"the weights in {folder} do not fit its card: {error}") from error
    network.requires_grad_(False)
    lookup.of(card.spec).lay_out_network(network.eval())
    return network
