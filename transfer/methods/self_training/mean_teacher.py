"""Mean teacher: agree with the average of the network's own past weights on different views."""

from copy import deepcopy
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from transfer.methods.building_blocks.semi_supervised import (
    begin,
    end,
    ramp,
    supervised,
    together,
    views_of,
)
from transfer.models.network import Network
from transfer.models.parameter_transfer import Knowledge
from transfer.training.method import Batch, FineTuning, Job, Prepared, Trained


class MeanTeacher(FineTuning):
    """Tarvainen and Valpola, NeurIPS 2017, from the source's weights.

    loss = cross_entropy + w(t) * mean_u ||p_student(strong x_u) - p_teacher(weak x_u)||^2, p the
    class probabilities. After step t = 1, 2, ... each parameter of the teacher becomes
    a * teacher + (1 - a) * student with a = min(keep, 1 - 1 / (t + 1)); its batch normalisation
    follows the weak views. The teacher is the result.
    """

    paper: ClassVar[str] = "Tarvainen and Valpola, 2017"
    reads_pool: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    keep: float = Field(0.97, ge=0, lt=1)
    """Share of the teacher's weights that a step keeps, once enough steps are done."""
    weight: float = Field(3.0, ge=0)
    """Weight w of the disagreement with the teacher, once it has risen."""
    rise: float = Field(0.4, ge=0, le=1)
    """Share of the steps over which that weight rises."""
    ratio: int = Field(2, ge=1)
    """Unlabelled items for each labelled one in a step."""
    strong: dict[str, Any] = Field(default_factory=dict)
    """How the student's view of unlabelled items is augmented: fields as in `augment` that replace
    those of the modality's own strong augmentation."""

    def prepare(
        self, network: Network, knowledge: Knowledge | None, class_names: tuple[str, ...]
    ) -> Prepared:
        prepared = super().prepare(network, knowledge, class_names)
        prepared.helpers["teacher"] = Teacher(network)
        return prepared

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        views = views_of(batch)
        labelled, strong = together(prepared.network, batch.inputs, views.strong)
        difference = strong.softmax(1) - prepared.helpers["teacher"](views.weak)
        weight = self.weight * ramp(progress, self.rise)
        return {
            **supervised(labelled, batch.targets),
            "consistency": torch.mul(difference.square().sum(1).mean(), weight),
        }

    def after_step(self, prepared: Prepared, progress: float) -> None:
        teacher = prepared.helpers["teacher"]
        assert isinstance(teacher, Teacher)
        teacher.follow(prepared.network, self.keep)

    def finish(self, prepared: Prepared) -> Network:
        teacher = prepared.helpers["teacher"]
        assert isinstance(teacher, Teacher)
        prepared.network.load_state_dict(teacher.network.state_dict())
        return prepared.network

    def train(self, job: Job) -> Trained:
        prepared = begin(self, job, self.ratio, self.strong)
        return end(job.fit(self, prepared), prepared.transfers, job)


class Teacher(nn.Module):
    """The exponential moving average of a network's parameters."""

    steps: Tensor

    def __init__(self, student: Network) -> None:
        super().__init__()
        self.network = deepcopy(student).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Class probabilities (U, K) of inputs (U, ...)."""
        self.network.train()
        scores: Tensor = self.network(inputs).float()
        return scores.softmax(1)

    @torch.no_grad()
    def follow(self, student: Network, keep: float) -> None:
        """Move a step towards the student."""
        self.steps += 1
        share = min(keep, 1 - 1 / (int(self.steps) + 1))
        for own, other in zip(self.network.parameters(), student.parameters(), strict=True):
            own.lerp_(other, 1 - share)


METHOD = MeanTeacher
