"""Fine-tuning: start from the source's weights and train everything, slower near the input."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from transfer.training.method import Batch, FineTuning, Prepared


class FineTune(FineTuning):
    """All parameters from the source, discriminative learning rates, cross-entropy.

    Yosinski et al., NeurIPS 2014 (fine-tuning transferred features); the rates after Howard and
    Ruder, ACL 2018: stage i of S trains at ``learning_rate * backbone_rate * decay ** (S - 1 -
    i)``. Their gradual unfreezing is the setting ``unfreeze``: stage i joins when a share
    ``unfreeze * (S - i) / S`` of the steps is done, and until then its parameters do not move. Only
    parameters are frozen: batch normalisation takes each batch's statistics from the first step on
    in all stages, so that the features do not jump when a stage joins.
    """

    paper: ClassVar[str] = "Yosinski et al., 2014; Howard and Ruder, 2018"
    unfreeze: float = Field(0.0, ge=0, lt=1)
    """Share of the steps over which the stages join the head, the last stage first; 0 trains all
    of them from the first step."""

    def loss(self, prepared: Prepared, batch: Batch, progress: float) -> dict[str, Tensor]:
        stages = prepared.network.backbone.stages()
        for i, stage in enumerate(stages):
            joins = self.unfreeze * (len(stages) - i) / len(stages)
            stage.requires_grad_(progress > joins - 1e-9)  # for rounding
        return super().loss(prepared, batch, progress)


METHOD = FineTune
