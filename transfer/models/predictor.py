"""From raw files or arrays to calibrated class probabilities, by a model folder alone.

The card is the model's own input contract; decoding is that of training.
Shapes: N items, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from transfer.core import plugins
from transfer.core.config import Section
from transfer.core.errors import CrosstrainError, DataRefusedError, ModelFileError
from transfer.data.storage.tensor_store import Images
from transfer.modalities.backbone import Body
from transfer.modalities.image.decode import decode, from_array, to_tensor
from transfer.modalities.image.spec import ImageLimits, ImageSpec, Unreadable
from transfer.modalities.normalisation import Normalisation
from transfer.models import checkpoint
from transfer.models.network import BACKBONES, Network, backbone_names, build


class Member(Section):
    """One arm in a model: its networks' class scores are averaged, then calibrated."""

    arm: str
    weight: float
    temperature: float
    networks: int
    steps: int = 0
    """Optimiser steps that each network took."""
    body: Body
    """The backbone of its networks."""
    normal: Normalisation
    """How its inputs are standardised."""


class Card(Section):
    """What a model expects and what it was made from."""

    format: Literal[2] = 2
    target: str
    class_names: tuple[str, ...]
    spec: ImageSpec
    limits: ImageLimits
    members: tuple[Member, ...]
    data: dict[str, str] = Field(default_factory=dict)
    """Name of each dataset to its md5; empty for a single arm, which is an intermediate."""
    settings_digest: str = ""


@dataclass(frozen=True)
class Predictor:
    """A loaded model: a weighted sum of its members' calibrated probabilities."""

    card: Card
    networks: tuple[tuple[Network, ...], ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes in the order of the columns of every prediction."""
        return self.card.class_names

    def member_logits(self, images: Images) -> Tensor:
        """Class scores (members, N, K) of images (N, C, H, W) uint8 that fit the card."""
        pairs = zip(self.networks, self.card.members, strict=True)
        return torch.stack([committee_logits(n, images, m.normal) for n, m in pairs])

    def predict_tensors(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (N, K) of decoded images (N, C, H, W) uint8 of the card's size."""
        scores = self.member_logits(torch.from_numpy(np.ascontiguousarray(images)))
        warmth = torch.tensor([m.temperature for m in self.card.members]).view(-1, 1, 1)
        weights = torch.tensor([m.weight for m in self.card.members]).view(-1, 1, 1)
        mixed: NDArray[np.float32] = (weights * (scores / warmth).softmax(-1)).sum(0).numpy()
        return mixed

    def predict_arrays(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (N, K) of uint8 arrays (N, H, W) or (N, H, W, channels) of any size.

        Raises:
            DataRefusedError: the array is not uint8 or has another number of dimensions.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise DataRefusedError(
                f"found an array of {images.dtype} with {images.ndim} dimensions; expected uint8 "
                "of shape (N, H, W) or (N, H, W, channels)"
            )
        return self._of([from_array(image, self.card.spec) for image in images])

    def predict_bytes(self, files: Sequence[bytes]) -> NDArray[np.float32]:
        """Probabilities (N, K) of the contents of image files.

        Raises:
            DataRefusedError: one cannot be decoded; the message says which and why.
        """
        return self._of([self._decoded(data, f"item {i}") for i, data in enumerate(files)])

    def predict_files(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """Probabilities (N, K) of image files.

        Raises:
            DataRefusedError: one cannot be read or decoded; the message says which and why.
        """
        return self._of([self._decoded(_read(Path(p)), str(p)) for p in paths])

    def _decoded(self, data: bytes, name: str) -> NDArray[np.uint8]:
        try:
            return to_tensor(decode(data, self.card.limits), self.card.spec)
        except Unreadable as error:
            raise DataRefusedError(f"{name}: {error}; expected a readable image file") from error

    def _of(self, tensors: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if not tensors:
            return np.empty((0, len(self.class_names)), np.float32)
        return self.predict_tensors(np.stack(tensors))


def committee_logits(networks: Sequence[Network], images: Images, normal: Normalisation) -> Tensor:
    """Mean class scores (N, K) of networks on images (N, C, H, W) uint8, on the CPU."""
    parts = []
    with torch.inference_mode():
        for part in images.split(networks[0].backbone.chunk):
            inputs = normal.apply(part.float().div(255))
            inputs = inputs.contiguous(memory_format=torch.channels_last)
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


def _check_installed(body: Body, folder: Path) -> None:
    if missing := sorted(backbone_names(body) - set(plugins.names(BACKBONES))):
        raise ModelFileError(
            f"the weights in {folder} do not fit its card while the backbone {missing[0]!r} is "
            "missing: it is a plug-in that is not installed here; expected a package with an entry "
            f"point of that name in the group {BACKBONES.group}: install the one that the model "
            "was trained with"
        )


def _network(
    card: Card, state: dict[str, Tensor], member: int, number: int, folder: Path
) -> Network:
    _check_installed(card.members[member].body, folder)
    prefix = tensor_name(member, number, "")
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    body, channels = card.members[member].body, card.spec.channels
    try:
        network = build(body, channels=channels, classes=len(card.class_names), seed=0)
        network.load_state_dict(own)
    except (RuntimeError, TypeError, CrosstrainError) as error:
        raise ModelFileError(f"the weights in {folder} do not fit its card: {error}") from error
    network.requires_grad_(False)
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
