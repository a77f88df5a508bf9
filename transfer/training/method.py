"""The seam of the transfer methods: a method is one file in transfer/methods/.

A module there sets ``METHOD`` to a subclass of `Method`. Its fields are its settings, so they
appear in params.yaml and in the typed form by themselves. The one training loop,
`transfer.training.loop`, calls its moves: `prepare`, `loss` at every step, `after_step`, `finish`.
A method that is not one run of the loop (two phases, replicas, a closed form) overrides `train`,
and calls the loop from there as often as it needs. What it reads beyond the target's labels it
declares.

Shapes: N labelled items of a batch, M of the source's, U unlabelled, K classes, Ks of the source.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from transfer.core.config import Section
from transfer.data.items import PoolItems, SourceItems, TrainItems
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.interface import Augmentation
from transfer.modalities.normalisation import Normalisation
from transfer.models.network import Network, build
from transfer.models.parameter_transfer import Knowledge, Transfer, transplant
from transfer.training.recipe import Recipe


@dataclass(frozen=True)
class SourceBatch:
    """Augmented items of the source, standardised by the source's own statistics."""

    inputs: Tensor  # M x ..., as the network takes them in
    targets: Tensor  # M x Ks class probabilities
    rows: Tensor  # M indices into the source's items


@dataclass(frozen=True)
class PoolBatch:
    """Two augmented views of the same unlabelled items of the target."""

    weak: Tensor  # U x ...: as labelled items are varied, but not mixed
    strong: Tensor  # U x ...: by `Prepared.strong`; equals weak where that is None
    rows: Tensor  # U indices into the pool


@dataclass(frozen=True)
class Batch:
    """What a loss sees: class scores are the loop's business, targets may be soft."""

    inputs: Tensor  # N x ... as the network takes them in, or N x D features of a frozen backbone
    targets: Tensor  # N x K class probabilities, rows sum to 1; N = 0 where nothing is labelled
    source: SourceBatch | None = None
    """For a method that reads the source's items."""
    pool: PoolBatch | None = None
    """For a method that reads unlabelled items."""


@dataclass
class Prepared:
    """A network made ready by a method."""

    network: Network
    rates: list[tuple[list[nn.Parameter], float]]
    """Groups of trained parameters, each with its peak learning rate."""
    transfers: list[Transfer]
    reference: dict[str, Tensor] = field(default_factory=dict)
    """Tensors the loss compares with, by parameter name."""
    helpers: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    """Nets and buffers that training needs and the model does not: teachers, discriminators, a
    source's head. They are kept in checkpoints."""
    frozen: Sequence[nn.Module | nn.Parameter] = ()
    """What training must not change. A parameter stays as it is; so does a module with all of its
    parameters and buffers: the loop keeps it in evaluation mode, so that running statistics stay
    too, and ends with an error where the method changed it all the same."""
    decays: bool = True
    """False for a method that pulls its weights by itself: the optimiser's decay is then off."""
    views: int = 0
    """Above 0 the backbone must be `frozen`: features of that many augmented views of each training
    item are computed once, and only the head is trained."""
    pool_batch: int = 0
    """Unlabelled items a step; 0 takes as many as labelled ones."""
    strong: Augmentation | None = None
    """How the second view of unlabelled items is varied."""

    def __post_init__(self) -> None:
        self.hold()

    def hold(self) -> None:
        """Put what is frozen into evaluation mode, and take it out of autograd."""
        for part in self.frozen:
            part.requires_grad_(False)
            if isinstance(part, nn.Module):
                part.eval()


@dataclass(frozen=True)
class Trained:
    """What a method hands back."""

    network: Network
    transfers: list[Transfer]
    normal: Normalisation | None = None
    """How the network's inputs are standardised, where not as the job says."""
    notes: dict[str, float | str] = field(default_factory=dict)
    """What a reader of the report should know, by a short name."""


class Fit(Protocol):
    """The training loop, for one phase of a job."""

    def __call__(
        self,
        method: "Method",
        prepared: Prepared,
        items: TrainItems | None = None,
        *,
        share: float = 1.0,
    ) -> Network:
        """Train on items, by default all labelled ones, for a share of the budget's steps.

        The shares of a job's phases should add up to 1, so that every method has one budget.
        """


class Embed(Protocol):
    """Features of a frozen backbone, computed once for all arms that share it."""

    def __call__(
        self,
        network: Network,
        views: int = 0,
        *,
        pool: bool = False,
        normal: Normalisation | None = None,
    ) -> Tensor:
        """Features (V, N, D) of the labelled items or of the pool, in the order of the job's.

        ``views`` augmented views of each item; 0 for the one that is not augmented (V = 1).
        ``normal`` standardises the inputs; None asks the backbone, and where that has none of its
        own, the job's recipe.
        """


@dataclass(frozen=True)
class Job:
    """One network of an arm: all that it may be made from, and the loop that trains it."""

    backbone_spec: BackboneSpec
    """The backbone to build: the knowledge's, or that of the settings where none is given."""
    own: BackboneSpec
    """That of the settings."""
    class_names: tuple[str, ...]
    """K names."""
    knowledge: Knowledge | None
    several: tuple[Knowledge, ...]
    """All knowledge sources of the run, for a method that combines them."""
    labelled: TrainItems
    pool: PoolItems | None
    source: SourceItems | None
    recipe: Recipe
    seed: int
    fit: Fit
    embed: Embed

    def network(self, backbone_spec: BackboneSpec | None = None) -> Network:
        """A fresh network; the same weights at every call."""
        return build(
            backbone_spec or self.backbone_spec,
            spec=self.recipe.spec,
            classes=len(self.class_names),
            seed=self.seed,
        )


class Method(Section):
    """A way to use what the source knows; the fields of a subclass are its settings."""

    paper: ClassVar[str] = ""
    """Where it is from: authors and year, for the table of methods."""
    uses_source: ClassVar[bool] = True
    """False for a method that never sees anything of the source."""
    reads_source: ClassVar[bool] = False
    """True for a method whose batches hold labelled items of the source."""
    reads_pool: ClassVar[bool] = False
    """True for a method whose batches hold unlabelled items of the target."""
    trains_backbone: ClassVar[bool] = True
    """False for a method that leaves the backbone as it is and learns from its features."""
    combines: ClassVar[bool] = False
    """True for a method that takes all knowledge sources of the run at once."""
    new_classes: ClassVar[bool] = True
    """False for a method that can only tell apart classes that the source knows."""
    needs_labels: ClassVar[bool] = True
    """False for a method that also works without a single labelled target item."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        """Put knowledge into a fresh network, group parameters by learning rate, and declare what
        stays as it is in `Prepared.frozen`: calling ``eval()`` or ``requires_grad_(False)`` here
        declares nothing."""
        raise NotImplementedError

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Named scalar terms of the loss, which the loop sums; progress runs from 0 to 1."""
        scores = prepared.network(batch.inputs)
        return {"cross_entropy": functional.cross_entropy(scores, batch.targets)}

    def after_step(self, prepared: Prepared, progress: float) -> None:
        """Update what does not learn by gradients, such as a teacher, after each step."""

    def finish(self, prepared: Prepared) -> Network:
        """The network to keep once the steps are done."""
        return prepared.network

    def train(self, job: Job) -> Trained:
        """Make one network of an arm: by default one run of the loop."""
        prepared = self.prepare(job.network(), job.knowledge, job.class_names)
        return Trained(job.fit(self, prepared), prepared.transfers)


def receive(
    network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
) -> list[Transfer]:
    """Transplant for a method that needs a source.

    Raises:
        ValueError: there is no source to take from.
    """
    return transplant(network, given(knowledge), class_names)


def given(knowledge: Knowledge | None) -> Knowledge:
    """The knowledge of a method that needs a source.

    Raises:
        ValueError: there is no source to take from.
    """
    if knowledge is None:
        raise ValueError("this method transfers from a source and was given none")
    return knowledge


def stage_rates(
    network: Network, peak: float, backbone_spec: float, decay: float
) -> list[tuple[list[nn.Parameter], float]]:
    """Discriminative learning rates (Howard and Ruder, ACL 2018): lower towards the input.

    The head trains at ``peak``, the last stage at ``peak * backbone``, and each stage before it at
    ``decay`` times the rate of the one that follows.
    """
    groups = [(list(network.head.parameters()), peak)]
    rate = peak * backbone_spec
    for stage in reversed(network.backbone.stages()):
        groups.append((list(stage.parameters()), rate))
        rate *= decay
    return groups


class FineTuning(Method):
    """A method that starts from the source's weights and trains all of them, gently near the input.

    Yosinski et al., NeurIPS 2014 (fine-tuning transferred features); the rates after Howard and
    Ruder, ACL 2018: stage i of S trains at ``learning_rate * backbone_rate * decay ** (S - 1 -
    i)``.
    """

    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate of the head."""
    backbone_rate: float = Field(0.5, gt=0, le=1)
    """Rate of the last stage, as a share of the head's."""
    decay: float = Field(0.8, gt=0, le=1)
    """Rate of a stage, as a share of that of the next one towards the output."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        transfers = receive(network, knowledge, class_names)
        rates = stage_rates(network, self.learning_rate, self.backbone_rate, self.decay)
        return Prepared(network, rates, transfers)
