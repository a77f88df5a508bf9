"""Parameter transfer: which tensor of the source goes where in the target's network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from transfer.core.config import Section
from transfer.modalities.backbone import Body
from transfer.modalities.interface import Pretrained
from transfer.modalities.normalisation import Normalisation
from transfer.models.network import Network


class Transfer(Section):
    """What became of one tensor of the target's network; a list of these is the transfer map."""

    tensor: str
    action: Literal["copied", "sliced", "reinitialised"]
    shape: list[int]
    source_shape: list[int] | None
    detail: str = ""


@dataclass(frozen=True)
class Knowledge:
    """A pretrained network, as an arm receives it."""

    source: str
    """Name of the dataset or package it comes from."""
    class_names: tuple[str, ...]
    """In the order of the head's rows; empty where its head is of no use."""
    state: Mapping[str, Tensor]
    body: Body
    normal: Normalisation
    """How inputs were standardised when it was trained."""
    fixed_normal: bool = False
    """True when it must go on with `normal`; false when each dataset is standardised by its own
    statistics."""


def knowledge_of(pretrained: Pretrained) -> Knowledge:
    """The knowledge in a network whose weights come with a package: its backbone's alone."""
    named = {f"backbone.{name}": tensor for name, tensor in pretrained.state.items()}
    return Knowledge(
        pretrained.source, (), named, pretrained.body, pretrained.normal, fixed_normal=True
    )


def transplant(
    network: Network, knowledge: Knowledge, class_names: Sequence[str]
) -> list[Transfer]:
    """Copy a source's tensors into a network, in place, and say what happened to each.

    A tensor of equal name and shape is copied. Rows of the head are copied for classes of the
    same name. A first convolution whose input channels differ takes the mean of the source's
    input channels, scaled so that equal channels give the same response. Everything else keeps
    its fresh values.

    Args:
        network: the target's network, freshly initialised.
        knowledge: the source's tensors and class names.
        class_names: the target's classes, in the order of the head's rows.
    """
    rows = []
    for name, tensor in network.state_dict().items():
        found = knowledge.state.get(name)
        shape, source_shape = list(tensor.shape), None if found is None else list(found.shape)
        if found is None:
            action, detail = "reinitialised", "not in the source"
        elif name.startswith("head."):
            action, detail = _copy_rows(tensor, found, knowledge.class_names, class_names)
        elif shape == source_shape:
            tensor.copy_(found)
            action, detail = "copied", ""
        else:
            action, detail = _adapt_channels(tensor, found)
        told = {"tensor": name, "action": action, "shape": shape, "source_shape": source_shape}
        rows.append(Transfer.model_validate({**told, "detail": detail}))
    return rows


def untouched(network: Network) -> list[Transfer]:
    """The transfer map of training from scratch: every tensor fresh."""
    return [
        Transfer(tensor=name, action="reinitialised", shape=list(t.shape), source_shape=None)
        for name, t in network.state_dict().items()
    ]


def _copy_rows(
    tensor: Tensor, found: Tensor, source: Sequence[str], target: Sequence[str]
) -> tuple[str, str]:
    shared = [name for name in target if name in source]
    if not shared or tensor.shape[1:] != found.shape[1:]:
        return "reinitialised", "no shared class"
    with torch.no_grad():
        for name in shared:
            tensor[target.index(name)] = found[source.index(name)]
    if tuple(source) == tuple(target):
        return "copied", "all classes shared"
    return "sliced", f"rows of {len(shared)} shared classes of {len(target)}"


def _adapt_channels(tensor: Tensor, found: Tensor) -> tuple[str, str]:
    """Fill a convolution (outputs, inputs, ...) from one with other inputs."""
    same_but_inputs = (
        tensor.dim() == found.dim() >= 3
        and tensor.shape[0] == found.shape[0]
        and tensor.shape[2:] == found.shape[2:]
    )
    if not same_but_inputs:
        return "reinitialised", "shapes differ"
    inputs = tensor.shape[1]
    tensor.copy_((found.sum(dim=1, keepdim=True) / inputs).expand_as(tensor))
    return "sliced", f"input channels {found.shape[1]} to {inputs}"
