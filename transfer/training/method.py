"""The interface of the transfer methods: a method is one file in transfer/methods/.

A module there sets ``METHOD`` to a subclass of `Method`. Its fields are its settings, so they
appear automatically in params.yaml and in the typed form. The training loop,
`transfer.training.loop`, calls the method's `prepare`, `loss` at every step, `after_step` and
`finish`. A method that is not one run of the loop (two phases, replicas, a closed form) overrides
`train`, and calls the loop from there as often as it needs. A method declares which data it reads
besides the labelled items of the target.

Shapes: N labelled items of a batch, M items of the source, U unlabelled items, K classes, Ks
classes of the source.
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

    inputs: Tensor  # M x ..., network inputs
    targets: Tensor  # M x Ks class probabilities
    rows: Tensor  # M indices into the source's items


@dataclass(frozen=True)
class PoolBatch:
    """Two augmented views of the same unlabelled items of the target."""

    weak: Tensor  # U x ...: augmented like labelled items, but not mixed
    strong: Tensor  # U x ...: augmented by `Prepared.strong`; equals weak where that is None
    rows: Tensor  # U indices into the pool


@dataclass(frozen=True)
class Batch:
    """The data from which a method computes its loss at one step; targets may be soft."""

    inputs: Tensor  # N x ... network inputs, or N x D features of a frozen backbone
    targets: Tensor  # N x K class probabilities, rows sum to 1; N = 0 where nothing is labelled
    source: SourceBatch | None = None
    """For a method that reads the source's items."""
    pool: PoolBatch | None = None
    """For a method that reads unlabelled items."""


@dataclass
class Prepared:
    """A network that a method has made ready for training."""

    network: Network
    rates: list[tuple[list[nn.Parameter], float]]
    """Groups of trained parameters, each with its peak learning rate."""
    transfers: list[Transfer]
    reference: dict[str, Tensor] = field(default_factory=dict)
    """Reference tensors for the loss, by parameter name."""
    helpers: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    """Networks and buffers that training needs and the model does not: teachers, discriminators, a
    source's head. Checkpoints contain them."""
    frozen: Sequence[nn.Module | nn.Parameter] = ()
    """What training must not change: parameters, and modules with all their parameters and buffers.
    The loop keeps these modules in evaluation mode, so that running statistics do not change
    either, and ends with an error where the method changed a frozen tensor nevertheless."""
    decays: bool = True
    """False for a method with its own penalty on the weights: the optimiser's decay is then off."""
    views: int = 0
    """Above 0 the backbone must be `frozen`: features of that many augmented views of each training
    item are computed once, and only the head is trained."""
    pool_batch: int = 0
    """Unlabelled items per step; 0 takes as many as labelled items."""
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
    """The result of a method."""

    network: Network
    transfers: list[Transfer]
    normal: Normalisation | None = None
    """How the network's inputs are standardised; None where it is as the job's recipe states."""
    notes: dict[str, float | str] = field(default_factory=dict)
    """Facts for the report, each with a short name."""


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
        """Train on items, by default all labelled items, for a share of the budget's steps.

        The shares of a job's phases should add up to 1, so that every method has the same
        budget.
        """


class Embed(Protocol):
    """Computes the features of a frozen backbone, once for all arms that share it."""

    def __call__(
        self,
        network: Network,
        views: int = 0,
        *,
        pool: bool = False,
        normal: Normalisation | None = None,
    ) -> Tensor:
        """Features (V, N, D) of the job's labelled items or pool, in the job's order.

        ``views`` augmented views of each item; 0 for one view without augmentation (V = 1).
        ``normal`` standardises the inputs; None uses the backbone's own normalisation, or that of
        the job's recipe where the backbone has none.
        """


@dataclass(frozen=True)
class Job:
    """One network of an arm: everything from which it may be made, and the loop that trains it."""

    backbone_spec: BackboneSpec
    """The backbone to build: that of the knowledge, or that of the settings without knowledge."""
    own: BackboneSpec
    """The backbone of the settings."""
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
        """A new network; the same weights at every call."""
        return build(
            backbone_spec or self.backbone_spec,
            spec=self.recipe.spec,
            classes=len(self.class_names),
            seed=self.seed,
        )


class Method(Section):
    """A way to transfer from a source to a target; the fields of a subclass are its settings."""

    paper: ClassVar[str] = ""
    """Authors and year of the paper, for the table of methods."""
    uses_source: ClassVar[bool] = True
    """False for a method that uses nothing from the source."""
    reads_source: ClassVar[bool] = False
    """True for a method whose batches hold labelled items of the source."""
    reads_pool: ClassVar[bool] = False
    """True for a method whose batches hold unlabelled items of the target."""
    trains_backbone: ClassVar[bool] = True
    """False for a method that leaves the backbone as it is and learns from its features."""
    combines: ClassVar[bool] = False
    """True for a method that takes all knowledge sources of the run at once."""
    new_classes: ClassVar[bool] = True
    """False for a method that can only distinguish classes of the source."""
    needs_labels: ClassVar[bool] = True
    """False for a method that also works without a single labelled target item."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        """Put knowledge into a new network, group parameters by learning rate, and declare in
        `Prepared.frozen` what must not change: ``eval()`` or ``requires_grad_(False)`` here
        declares nothing."""
        raise NotImplementedError

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Named scalar terms of the loss, which the loop sums; progress goes from 0 to 1."""
        scores = prepared.network(batch.inputs)
        return {"cross_entropy": functional.cross_entropy(scores, batch.targets)}

    def after_step(self, prepared: Prepared, progress: float) -> None:
        """Update what is not trained by gradients, such as a teacher, after each step."""

    def finish(self, prepared: Prepared) -> Network:
        """The network to keep after the last step."""
        return prepared.network

    def train(self, job: Job) -> Trained:
        """Make one network of an arm: by default one run of the loop."""
        prepared = self.prepare(job.network(), job.knowledge, job.class_names)
        return Trained(job.fit(self, prepared), prepared.transfers)


def receive(
    network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
) -> list[Transfer]:
    """Transfer parameters to a network, for a method that needs a source.

    Raises:
        ValueError: there is no source.
    """
    return transplant(network, given(knowledge), class_names)


def given(knowledge: Knowledge | None) -> Knowledge:
    """The knowledge of a method that needs a source.

    Raises:
        ValueError: there is no source.
    """
    if knowledge is None:
        raise ValueError("this method transfers from a source and was given none")
    return knowledge


def stage_rates(
    network: Network, peak: float, backbone_rate: float, decay: float
) -> list[tuple[list[nn.Parameter], float]]:
    """Discriminative learning rates (Howard and Ruder, ACL 2018): lower towards the input.

    The head trains at ``peak``, the last stage at ``peak * backbone_rate``, and each stage before
    it at ``decay`` times the rate of the stage that follows.
    """
    groups = [(list(network.head.parameters()), peak)]
    rate = peak * backbone_rate
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
    """Rate of a stage, as a share of the rate of the next stage towards the output."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        transfers = receive(network, knowledge, class_names)
        rates = stage_rates(network, self.learning_rate, self.backbone_rate, self.decay)
        return Prepared(network, rates, transfers)
