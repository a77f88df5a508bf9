"""Principal components of the source's features, and logistic regression on them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
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


class PrincipalComponents(Method):
    """A frozen backbone, principal component analysis, multinomial logistic regression.

    Pearson, Philosophical Magazine 1901; Hotelling, Journal of Educational Psychology 1933. The
    standardised features z become ``P (z - mean)``, P the fewest directions that explain
    ``explained`` of their variance; they are not whitened, so that the penalty weighs most on
    directions of little variance. Everything, the components too, is fitted on the labelled items
    that the arm trains on, and in each inner fold on that fold's training items.
    """

    paper: ClassVar[str] = "Pearson, 1901"
    trains_backbone: ClassVar[bool] = False
    views: int = Field(8, ge=0)
    """Augmented views of each training item; 0 takes the items as they are."""
    explained: float = Field(0.99, gt=0, lt=1)
    """Share of the features' variance that the components explain."""
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0), min_length=1
    )
    """Inverse strengths C of the logistic regression's L2 penalty to choose from, rising."""
    folds: int = Field(5, ge=2)
    """Folds within the labelled items, by whose log loss C is chosen."""

    def train(self, job: Job) -> Trained:
        network, transfers = frozen(job)
        rows = Rows.of(job, network, self.views)
        strength = choose(rows, self._path, self.strengths, self.folds, job.seed)
        (scores,) = self._path(rows, [strength])
        components = len(projection(rows, self.explained).bias)
        notes: dict[str, float | str] = {"C": strength, "components": float(components)}
        return Trained(with_head(network, scores), transfers, notes=notes)

    def _path(self, rows: Rows, strengths: Sequence[float]) -> list[Affine]:
        reduced = projection(rows, self.explained)
        projected = replace(rows, features=reduced(rows.features))
        return [reduced.then(scores) for scores in logistic(projected, strengths)]


def projection(rows: Rows, explained: float) -> Affine:
    """Standardisation, then the components that explain that share of the variance.

    Features that do not vary at all leave a single component, which is zero.
    """
    from sklearn.decomposition import PCA

    scaled, scaling = rows.standardised()
    if not scaled.features.any():
        return Affine(np.zeros((1, scaled.features.shape[1])), np.zeros(1))
    pca = PCA(explained, svd_solver="full").fit(scaled.features)
    return scaling.then(Affine(pca.components_, -pca.components_ @ pca.mean_))


METHOD = PrincipalComponents
