"""Low-rank adaptation: the source's weights stay, and a small correction of each is learned."""

from operator import attrgetter
from typing import ClassVar
from zlib import crc32

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from transfer.models.network import Network
from transfer.models.norm_layers import NORMS
from transfer.models.parameter_transfer import Knowledge, Transfer
from transfer.training.batches import generator
from transfer.training.method import Job, Method, Prepared, Trained, receive, stage_rates


class LowRank(nn.Module):
    """W + scale * B A for a weight W of O outputs, as a matrix (O, I).

    A kernel (O, C, h, w) is the matrix with I = C h w. A (r, I) starts random, B (O, r) as zero,
    so that the weight starts unchanged; r is the rank, at most O and I.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float, rng: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.flatten(1).shape
        rank = min(rank, outputs, inputs)
        self.scale = scale
        self.a = nn.Parameter(torch.randn(rank, inputs, generator=rng) / inputs**0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The corrected weight, of the weight's own shape."""
        return weight + self.scale * (self.b @ self.a).view(weight.shape)


class LoRA(Method):
    """LoRA (Hu et al., ICLR 2022) on every convolution and linear layer of the backbone.

    W = W0 + (alpha / r) * B A, with W0 the source's weight, frozen, and A and B learned; a kernel
    is taken as a matrix of its outputs by all of its inputs. All of the head is trained. Batch
    normalisation adapts: its statistics are those of the target's batches, as in fine-tuning, and
    with ``norms`` the scales and shifts of all normalisation layers are trained. Weight decay pulls
    A and B to zero, and so the weights to the source's. The moving average is that of A and B;
    at the end B A is added to the weights, and a plain network remains.
    """

    paper: ClassVar[str] = "Hu et al., 2022"
    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate of the head."""
    backbone_rate: float = Field(1.0, gt=0, le=1)
    """Rate of the last stage's adapters, as a share of the head's."""
    decay: float = Field(0.8, gt=0, le=1)
    """Rate of a stage, as a share of that of the next one towards the output."""
    rank: int = Field(4, ge=1)
    """r: rank of a correction."""
    alpha: float = Field(8.0, gt=0)
    """Scale of a correction, as a multiple of 1 / r."""
    norms: bool = True
    """Train the scales and shifts of normalisation layers too."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        rng = generator(crc32(network.head.weight.detach().numpy().tobytes()))
        transfers = receive(network, knowledge, class_names)
        network.backbone.requires_grad_(False)
        details = {}
        for name, module in list(network.backbone.named_modules()):
            if isinstance(module, nn.Conv2d | nn.Linear):
                details[f"backbone.{name}.weight"] = self._adapt(module, rng)
            elif isinstance(module, NORMS):
                module.requires_grad_(self.norms)
        frozen = [p for p in network.backbone.parameters() if not p.requires_grad]
        detailed = [_detailed(t, details) for t in transfers]
        return Prepared(network, self._rates(network), detailed, frozen=frozen)

    def _adapt(self, module: nn.Conv2d | nn.Linear, rng: torch.Generator) -> str:
        correction = LowRank(module.weight, self.rank, self.alpha / self.rank, rng)
        size = module.weight.numel()
        parametrize.register_parametrization(module, "weight", correction)
        rank, trained = len(correction.a), correction.a.numel() + correction.b.numel()
        return f"corrected at rank {rank}: {trained} numbers trained for {size}"

    def _rates(self, network: Network) -> list[tuple[list[nn.Parameter], float]]:
        groups = stage_rates(network, self.learning_rate, self.backbone_rate, self.decay)
        training = [([p for p in group if p.requires_grad], rate) for group, rate in groups]
        return [(group, rate) for group, rate in training if group]

    def train(self, job: Job) -> Trained:
        prepared = self.prepare(job.network(), job.knowledge, job.class_names)
        trained = sum(p.numel() for group, _ in prepared.rates for p in group)
        network = merged(job.fit(self, prepared), job.network())
        total = sum(p.numel() for p in network.parameters())
        notes: dict[str, float | str] = {
            "parameters trained": float(trained),
            "parameters": float(total),
        }
        return Trained(network, prepared.transfers, notes=notes)


def merged(adapted: Network, plain: Network) -> Network:
    """A plain network with the corrected weights of an adapted one, in evaluation mode."""
    state = {name: attrgetter(name)(adapted) for name in plain.state_dict()}
    plain.load_state_dict(state)
    plain.requires_grad_(False).to(adapted.head.weight.device)
    return plain.eval()


def _detailed(transfer: Transfer, details: dict[str, str]) -> Transfer:
    parts = [part for part in (transfer.detail, details.get(transfer.tensor, "")) if part]
    return transfer.model_copy(update={"detail": "; ".join(parts)})


METHOD = LoRA
