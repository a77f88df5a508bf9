"""FixMatch: the class of a weakly augmented item, if certain, is the label of a strong view."""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from transfer.methods.building_blocks.semi_supervised import (
    begin,
    end,
    pool_of,
    ramp,
    supervised,
    together,
    views_of,
)
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge
from transfer.training.method import Batch, FineTuning, Job, Prepared, Trained


class FixMatch(FineTuning):
    """FixMatch (Sohn et al., NeurIPS 2020) from the source's weights.

    loss = cross_entropy + w(t) * mean_u [max p_u >= T(c_u)] * CE(strong x_u, c_u), where p_u are
    the probabilities of the weak view, without a gradient, and c_u their largest. All views pass
    through the network at once, so that batch normalisation sees their mixture.

    T is the threshold; or with ``curriculum`` FlexMatch's (Zhang et al., NeurIPS 2021), lower for
    classes that are predicted with certainty for few items: see `Curriculum`. With ``align``, p_u
    is aligned with the classes' shares among the labelled items (ReMixMatch, Berthelot et al., ICLR
    2020).
    """

    paper: ClassVar[str] = "Sohn et al., 2020; Zhang et al., 2021"
    reads_pool: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    threshold: float = Field(0.8, ge=0, le=1)
    """Least probability of a pseudo-label that is trained on. Label smoothing limits the
    probabilities of a network: a smoothing of 0.1, to about 0.9."""
    curriculum: bool = True
    """Lower the threshold of classes that the network predicts with less certainty."""
    align: bool = False
    """Scale predictions to the classes' shares among the labelled items, or to equal shares if
    there are none; wrong if the unlabelled items have other shares."""
    weight: float = Field(1.0, ge=0)
    """Weight w of the pseudo-labels, once it has risen."""
    rise: float = Field(0.3, ge=0, le=1)
    """Share of the steps over which that weight rises."""
    ratio: int = Field(2, ge=1)
    """Unlabelled items for each labelled one in a step."""
    strong: dict[str, Any] = Field(default_factory=dict)
    """How the strong view of unlabelled items is augmented: fields as in `augment` that replace
    those of the modality's own strong augmentation."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        prepared = super().prepare(network, knowledge, class_names)
        if self.align:
            prepared.helpers["alignment"] = Alignment(len(class_names))
        return prepared

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        views = views_of(batch)
        labelled, weak, strong = together(prepared.network, batch.inputs, views.weak, views.strong)
        chances = weak.detach().softmax(1)
        if self.align:
            chances = prepared.helpers["alignment"](chances, batch.targets)
        certainty, labels = chances.max(1)
        mask = certainty >= self._thresholds(prepared, views.rows, certainty, labels)
        losses = functional.cross_entropy(strong, labels, reduction="none")
        weight = self.weight * ramp(progress, self.rise)
        return {
            **supervised(labelled, batch.targets),
            "consistency": torch.mul((losses * mask).mean(), weight),
        }

    def _thresholds(
        self, prepared: Prepared, rows: Tensor, certainty: Tensor, labels: Tensor
    ) -> Tensor | float:
        if not self.curriculum:
            return self.threshold
        memory = prepared.helpers["curriculum"]
        assert isinstance(memory, Curriculum)
        thresholds = memory.thresholds(self.threshold)[labels]
        memory.remember(rows, torch.where(certainty >= self.threshold, labels, -1))
        return thresholds

    def train(self, job: Job) -> Trained:
        prepared = begin(self, job, self.ratio, self.strong, "stronger")
        if self.curriculum:
            classes = len(job.class_names)
            prepared.helpers["curriculum"] = Curriculum(len(pool_of(job)), classes)
        return end(job.fit(self, prepared), prepared.transfers, job)


class Curriculum(nn.Module):
    """FlexMatch's memory: the class that each item of the pool was last predicted with certainty.

    With n_c items certain to be of class c, and m of none, T(c) = threshold * b / (2 - b), where
    b = n_c / max(max_k n_k, m).
    """

    last: Tensor

    def __init__(self, items: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.register_buffer("last", torch.full((items,), -1))  # -1: not certain

    def thresholds(self, threshold: float) -> Tensor:
        """The current T (K)."""
        counts = torch.bincount(self.last + 1, minlength=self.classes + 1).float()
        share = counts[1:] / counts.max()
        return threshold * share / (2 - share)

    def remember(self, rows: Tensor, labels: Tensor) -> None:
        """Store the classes (U) of items, -1 for an item that is not certain."""
        self.last[rows.to(self.last.device)] = labels


class Alignment(nn.Module):
    """Distribution alignment: p becomes p * target_shares / predicted_shares, scaled to sum to 1.

    Both are moving averages: of the labelled items' targets, and of the predictions.
    """

    target_shares: Tensor
    predicted_shares: Tensor

    def __init__(self, classes: int, keep: float = 0.98) -> None:
        super().__init__()
        self.keep = keep
        self.register_buffer("target_shares", torch.full((classes,), 1 / classes))
        self.register_buffer("predicted_shares", torch.full((classes,), 1 / classes))

    def forward(self, chances: Tensor, targets: Tensor) -> Tensor:
        """Aligned probabilities (U, K), with the averages moved by this batch first."""
        if len(targets):
            self.target_shares.lerp_(targets.mean(0), 1 - self.keep)
        self.predicted_shares.lerp_(chances.mean(0), 1 - self.keep)
        return functional.normalize(
            chances * self.target_shares / self.predicted_shares, p=1, dim=1
        )


METHOD = FixMatch
