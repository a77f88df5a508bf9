"""Linear discriminant analysis of the source's features."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from transfer.methods.building_blocks.closed_form_heads import (
    Affine,
    Rows,
    constant,
    cooled,
    frozen,
    losses,
    out_of_fold,
    scores_of,
    spread,
    temperature_of,
    with_head,
)
from transfer.training.method import Job, Method, Trained


class LDA(Method):
    """A frozen backbone and Fisher's linear discriminant with a shrunk covariance.

    Fisher, Annals of Eugenics 1936; shrinkage after Friedman, JASA 1989. Scores are the log
    posterior of Gaussian classes with one covariance, up to a constant:
    ``mu_k' S^-1 x - mu_k' S^-1 mu_k / 2 + log p_k`` with ``S = (1 - s) W + s tr(W) / D I``,
    W the covariance of the views of items about their class mean, p_k the classes' shares.

    The posterior itself is used, not a logistic regression on the K - 1 discriminants: these are
    fitted on the same few items, which they often separate perfectly. The shrinkage s is chosen by
    cross-validation rather than by the formula of Ledoit and Wolf (2004), which counts an item's
    views as independent items. All scores are divided by a temperature T, chosen with s:
    Gaussians in many dimensions are far too confident.
    """

    paper: ClassVar[str] = "Fisher, 1936; Friedman, 1989"
    trains_backbone: ClassVar[bool] = False
    views: int = Field(8, ge=0)
    """Augmented views of each training item; 0 takes the items as they are."""
    shrinkages: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.01, 0.03, 0.1, 0.3, 0.6, 1.0), min_length=1
    )
    """Shares s of the covariance that are replaced by equal variances, to choose from, rising."""
    folds: int = Field(5, ge=2)
    """Folds within the labelled items, by whose log loss s is chosen."""

    def train(self, job: Job) -> Trained:
        network, transfers = frozen(job)
        rows = Rows.of(job, network, self.views)
        shrinkage, temperature = self._chosen(rows, job.seed)
        (scores,) = _path(rows, [shrinkage])
        network = with_head(network, cooled(scores, temperature, rows.labels))
        notes: dict[str, float | str] = {"shrinkage": shrinkage, "temperature": temperature}
        return Trained(network, transfers, notes=notes)

    def _chosen(self, rows: Rows, seed: int) -> tuple[float, float]:
        """Shrinkage and temperature of the least log loss out of fold.

        Without any row to compare on: the middle shrinkage, and scores of standard deviation 1.
        """
        scores, judged = out_of_fold(rows, _path, self.shrinkages, self.folds, seed)
        labels = rows.labels[judged]
        if not len(labels):
            middle = self.shrinkages[len(self.shrinkages) // 2]
            (own,) = _path(rows, [middle])
            return middle, max(1.0, float(own(rows.features)[:, np.unique(rows.labels)].std()))
        tried = []
        for shrinkage, out in zip(self.shrinkages, scores[:, judged], strict=True):
            temperature = temperature_of(out, labels)
            tried.append((losses(out / temperature, labels).mean(), shrinkage, temperature))
        return min(tried)[1:]


def _path(rows: Rows, shrinkages: Sequence[float]) -> list[Affine]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    scaled, scaling = rows.standardised()
    present, places = np.unique(rows.labels, return_inverse=True)
    if len(present) == 1:
        return [constant(rows)] * len(shrinkages)
    means = np.stack([scaled.features[rows.labels == k].mean(0) for k in present])  # C x D
    if np.allclose(scaled.features, means[places]):
        return [scaling.then(_round(scaled, means, present))] * len(shrinkages)
    maps = []
    for shrinkage in shrinkages:
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
        model.fit(scaled.features, rows.labels)
        maps.append(scaling.then(scores_of(model, rows.classes)))
    return maps


def _round(rows: Rows, means: np.ndarray, present: np.ndarray) -> Affine:
    """For classes without variance, such as classes of one item: the covariance is I."""
    shares = np.bincount(rows.labels)[present] / len(rows.labels)
    own = Affine(means, np.log(shares) - np.square(means).sum(1) / 2)
    return spread(own, present, rows.classes)


METHOD = LDA
