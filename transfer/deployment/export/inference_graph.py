"""All computation of a model from records to probabilities, as one network: the exported graph.

Shapes: N records, K classes, M members.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from transfer.modalities import lookup
from transfer.modalities.interface import InputSpec
from transfer.modalities.normalisation import Normalisation
from transfer.models.network import Network
from transfer.models.predictor import Predictor


class Committee(nn.Module):
    """Calibrated probabilities (N, K) of one member."""

    def __init__(
        self, heads: Sequence[nn.Module], backbones: list[int], temperature: float
    ) -> None:
        super().__init__()
        self.heads, self.backbones, self.temperature = nn.ModuleList(heads), backbones, temperature

    def forward(self, features: list[Tensor]) -> Tensor:
        scores = [head(features[i]) for head, i in zip(self.heads, self.backbones, strict=True)]
        return (torch.stack(scores).mean(0) / self.temperature).softmax(-1)


class Whole(nn.Module):
    """Probabilities (N, K) of records (N, ...), as `Predictor.predict_records` gives.

    Scaling, standardisation, every network, temperatures and the weighted sum of the members are
    inside. Networks with backbones equal bit for bit share one.
    """

    weights: Tensor

    def __init__(self, model: Predictor) -> None:
        super().__init__()
        members, backbones = [], _Backbones(model.card.spec)
        for networks, card in zip(model.networks, model.card.members, strict=True):
            used = [backbones.add(network, card.normal) for network in networks]
            heads = [copy.deepcopy(network.head) for network in networks]
            members.append(Committee(heads, used, card.temperature))
        self.backbones, self.normals = nn.ModuleList(backbones.kept), backbones.normals
        self.members = nn.ModuleList(members)
        weights = torch.tensor([card.weight for card in model.card.members])
        self.register_buffer("weights", weights.view(-1, 1, 1))
        self.spec = model.card.spec
        self.eval()
        _lay_out_plainly(self)

    def forward(self, records: Tensor) -> Tensor:
        modality = lookup.of(self.spec)
        scaled = modality.scale(records, self.spec)
        pairs = zip(self.backbones, self.normals, strict=True)
        features = [
            backbone(modality.to_input(scaled, normal, self.spec)) for backbone, normal in pairs
        ]
        probabilities = torch.stack([member(features) for member in self.members])  # M x N x K
        return (self.weights * probabilities).sum(0)


def _lay_out_plainly(network: nn.Module) -> None:
    """Give weights their plain order in memory: litert-torch reads channels-last ones wrongly."""
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()


class _Backbones:
    """The different backbones of a model's networks, each with the standardisation of its
    inputs."""

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        self.kept: list[nn.Module] = []
        self.normals: list[Normalisation] = []
        self._networks: list[Network] = []

    def add(self, network: Network, normal: Normalisation) -> int:
        """Index of the network's backbone, which is added if it is new."""
        for i, (other, other_normal) in enumerate(zip(self._networks, self.normals, strict=True)):
            if normal == other_normal and _equal(network, other):
                return i
        backbone = lookup.of(self.spec).exportable(copy.deepcopy(network.backbone), self.spec)
        self._networks.append(network)
        self.normals.append(normal)
        self.kept.append(backbone)
        return len(self.kept) - 1


def _equal(network: Network, other: Network) -> bool:
    if network.backbone_spec != other.backbone_spec:
        return False
    state = other.backbone.state_dict()
    return all(torch.equal(t, state[name]) for name, t in network.backbone.state_dict().items())
