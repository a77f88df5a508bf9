"""Parameter transfer: which tensors of the source are copied into the target's network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from transfer.core.config import Section
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.interface import Pretrained
from transfer.modalities.normalisation import Normalisation
from transfer.models.network import Network


class Transfer(Section):
    """The origin of one tensor of the target's network; a list of these is the transfer map."""

    tensor: str
    action: Literal["copied", "sliced", "reinitialised"]
    shape: list[int]
    source_shape: list[int] | None
    detail: str = ""


@dataclass(frozen=True)
class Knowledge:
    """The weights and properties of a pretrained network that an arm uses."""

    source: str
    """Name of the dataset or package from which it comes."""
    class_names: tuple[str, ...]
    """In the order of the head's rows; empty where its head is not used."""
    state: Mapping[str, Tensor]
    backbone_spec: BackboneSpec
    normal: Normalisation
    """How inputs were standardised when it was trained."""
    fixed_normal: bool = False
    """True when `normal` must be used for every dataset; false when each dataset is standardised by
    its own statistics."""


def knowledge_of(pretrained: Pretrained) -> Knowledge:
    """The knowledge in a network whose weights come with a package: its backbone's alone."""
    named = {f"backbone.{name}": tensor for name, tensor in pretrained.state.items()}
    return Knowledge(
        pretrained.source, (), named, pretrained.backbone_spec, pretrained.normal, fixed_normal=True
    )


def transplant(
    network: Network, knowledge: Knowledge, class_names: Sequence[str]
) -> list[Transfer]:
    """Copy a source's tensors into a network, in place, and report what was done with each tensor.

    A tensor of equal name and shape is copied. Rows of the head are copied for classes of the
    same name. A first convolution whose input channels differ takes the mean of the source's
    input channels, scaled so that equal channels give the same response. Everything else keeps
    its initial values.

    Args:
        network: the target's network, freshly initialised.
        knowledge: the source's tensors and class names.
        class_names: the target's classes, in the order of the head's rows.
    """
    rows = []
    for name, tensor in network.state_dict().items():
        source_tensor = knowledge.state.get(name)
        shape, source_shape = (
            list(tensor.shape),
            None if source_tensor is None else list(source_tensor.shape),
        )
        if source_tensor is None:
            action, detail = "reinitialised", "not in the source"
        elif name.startswith("head."):
            action, detail = _copy_rows(tensor, source_tensor, knowledge.class_names, class_names)
        elif shape == source_shape:
            tensor.copy_(source_tensor)
            action, detail = "copied", ""
        else:
            action, detail = _adapt_channels(tensor, source_tensor)
        rows.append(
            Transfer.model_validate(
                {
                    "tensor": name,
                    "action": action,
                    "shape": shape,
                    "source_shape": source_shape,
                    "detail": detail,
                }
            )
        )
    return rows


def scratch_transfer_map(network: Network) -> list[Transfer]:
    """The transfer map of training from scratch: every tensor is reinitialised."""
    return [
        Transfer(tensor=name, action="reinitialised", shape=list(t.shape), source_shape=None)
        for name, t in network.state_dict().items()
    ]


def _copy_rows(
    tensor: Tensor, source_tensor: Tensor, source: Sequence[str], target: Sequence[str]
) -> tuple[str, str]:
    shared = [name for name in target if name in source]
    if not shared or tensor.shape[1:] != source_tensor.shape[1:]:
        return "reinitialised", "no shared class"
    with torch.no_grad():
        for name in shared:
            tensor[target.index(name)] = source_tensor[source.index(name)]
    if tuple(source) == tuple(target):
        return "copied", "all classes shared"
    return "sliced", f"rows of {len(shared)} shared classes of {len(target)}"


def _adapt_channels(tensor: Tensor, source_tensor: Tensor) -> tuple[str, str]:
    """Fill a convolution (outputs, inputs, ...) from one with other inputs."""
    same_but_inputs = (
        tensor.dim() == source_tensor.dim() >= 3
        and tensor.shape[0] == source_tensor.shape[0]
        and tensor.shape[2:] == source_tensor.shape[2:]
    )
    if not same_but_inputs:
        return "reinitialised", "shapes differ"
    inputs = tensor.shape[1]
    tensor.copy_((source_tensor.sum(dim=1, keepdim=True) / inputs).expand_as(tensor))
    return "sliced", f"input channels {source_tensor.shape[1]} to {inputs}"
