"""Logistic regression on the source's features: the strong simple baseline."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from transfer.methods.building_blocks.closed_form_heads import (
    Affine,
    Rows,
    choose,
    frozen,
    logistic,
    with_head,
)
from transfer.training.method import Job, Method, Trained


class Logistic(Method):
    """A frozen backbone and multinomial logistic regression on its standardised features.

    Kornblith, Shlens and Le, CVPR 2019 (linear evaluation of ImageNet features by L2-regularised
    logistic regression, its strength chosen by validation). Fitted to its optimum
    instead of for a budget of steps: minimises ``|w|^2 / 2 + C * (sum of the items' log losses)``,
    an item's loss being the mean of its views'.
    """

    paper: ClassVar[str] = "Cox, 1958"
    trains_backbone: ClassVar[bool] = False
    views: int = Field(8, ge=0)
    """Augmented views of each training item; 0 takes the items as they are."""
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0), min_length=1
    )
    """Inverse strengths C of the penalty to choose from, rising."""
    folds: int = Field(5, ge=2)
    """Folds within the labelled items, by whose log loss C is chosen."""

    def train(self, job: Job) -> Trained:
        network, transfers = frozen(job)
        rows = Rows.of(job, network, self.views)
        strength = choose(rows, _path, self.strengths, self.folds, job.seed)
        (scores,) = _path(rows, [strength])
        return Trained(with_head(network, scores), transfers, notes={"C": strength})


def _path(rows: Rows, strengths: Sequence[float]) -> list[Affine]:
    scaled, scaling = rows.standardised()
    return [scaling.then(scores) for scores in logistic(scaled, strengths)]


METHOD = Logistic
