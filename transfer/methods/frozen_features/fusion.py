"""Fusion: the features of several sources side by side, weighted by a gate, and one linear head."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from transfer.methods.building_blocks.feature_scaling import Standard, standard
from transfer.modalities.backbone import BackboneSpec
from transfer.models.fused import Fused, Part
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge, transplant
from transfer.training.method import Batch, Job, Method, Prepared, Trained, given


class Gate(nn.Module):
    """Standardised features of P parts, part p multiplied by P * softmax(a)_p.

    A gate that is the same for all inputs (after the gated multimodal unit of Arevalo et al.,
    ICLR workshop 2017), so that it can be folded into a linear head. It starts with equal weights.
    """

    part: Tensor

    def __init__(self, given: Standard, sizes: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("centre", given.centre)
        self.register_buffer("scale", given.scale)
        self.register_buffer(
            "part", torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        )
        self.logits = nn.Parameter(torch.zeros(len(sizes)))

    def shares(self) -> Tensor:
        """Weights (P,) of the parts; they sum to 1."""
        return self.logits.softmax(0)

    def standard(self) -> Standard:
        """The gate and the standardisation as one linear map of D features."""
        opened = len(self.logits) * self.shares()[self.part]
        return Standard(self.get_buffer("centre"), self.get_buffer("scale") * opened)

    def forward(self, features: Tensor) -> Tensor:
        """Gated features (N, D) of raw ones (N, D)."""
        return self.standard().apply(features)


class Fusion(Method):
    """All sources' backbones frozen and side by side (fusion by concatenation, as of VGG and
    ResNet).

    Features of each are standardised, so that none counts more because of its scale; a gate
    (Arevalo et al., ICLR workshop 2017) and a linear head learn from cached features of augmented
    views. Both are folded into the head at the end, which leaves a plain network on raw features.
    With one source this is a linear probe.
    """

    paper: ClassVar[str] = "Arevalo et al., 2017"
    combines: ClassVar[bool] = True
    trains_backbone: ClassVar[bool] = False

    learning_rate: float = Field(0.1, gt=0)
    """Peak learning rate of the head and of the gate."""
    views: int = Field(8, ge=1)
    """Augmented views of each training item whose features are kept."""

    def train(self, job: Job) -> Trained:
        given(job.knowledge)
        network = job.network(fused_backbone(job))
        transfers = transplant(
            network, side_by_side(job.several, network.backbone_spec), job.class_names
        )
        gate = self._gate(job, network)
        with torch.no_grad():
            network.head.weight.zero_()
            network.head.bias.zero_()
        rates = [([*network.head.parameters(), *gate.parameters()], self.learning_rate)]
        helpers = nn.ModuleDict({"gate": gate})
        prepared = Prepared(
            network,
            rates,
            transfers,
            helpers=helpers,
            frozen=[network.backbone],
            views=self.views,
        )
        trained = job.fit(_Gated(), prepared)
        return Trained(trained, transfers, network.backbone.normal, _notes(job.several, gate))

    def _gate(self, job: Job, network: Network) -> Gate:
        features = job.embed(network, self.views)  # V x N x D
        backbone = network.backbone
        assert isinstance(backbone, Fused)
        return Gate(standard(features.flatten(0, 1)), backbone.sizes)


class _Gated(Method):
    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        gated = prepared.helpers["gate"](batch.inputs)
        scores = prepared.network.head(gated)
        return {"cross_entropy": functional.cross_entropy(scores, batch.targets)}

    def finish(self, prepared: Prepared) -> Network:
        gate, head = prepared.helpers["gate"], prepared.network.head
        assert isinstance(gate, Gate)
        with torch.no_grad():
            weight, bias = gate.standard().folded(head.weight, head.bias)
            head.weight.copy_(weight)
            head.bias.copy_(bias)
        return prepared.network


def fused_backbone(job: Job) -> BackboneSpec:
    """The record of all sources' backbones side by side, each with its own standardisation: that of
    the source where it is fixed, else that of the target's data."""
    parts = [
        Part(
            name=source.backbone_spec.name,
            options=source.backbone_spec.options,
            normal=source.normal if source.fixed_normal else job.recipe.normal,
        ).model_dump(mode="json")
        for source in job.several
    ]
    return BackboneSpec(name="fused", options={"parts": parts})


def side_by_side(several: Sequence[Knowledge], backbone_spec: BackboneSpec) -> Knowledge:
    """The tensors of several sources, under the names that they have in a fused backbone."""
    state = {
        f"backbone.parts.{i}.{name.removeprefix('backbone.')}": tensor
        for i, knowledge in enumerate(several)
        for name, tensor in knowledge.state.items()
        if name.startswith("backbone.")
    }
    source = " + ".join(knowledge.source for knowledge in several)
    return Knowledge(source, (), state, backbone_spec, several[0].normal)


def _notes(several: Sequence[Knowledge], gate: Gate) -> dict[str, float | str]:
    shares = gate.shares().tolist()
    return {
        f"gate of source {i + 1} ({knowledge.source})": share
        for i, (knowledge, share) in enumerate(zip(several, shares, strict=True))
    }


METHOD = Fusion
