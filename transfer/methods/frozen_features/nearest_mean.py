"""Nearest class mean in the source's feature space."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from transfer.methods.building_blocks.closed_form_heads import (
    Affine,
    Reals,
    Rows,
    constant,
    cooled,
    frozen,
    spread,
    temperature_of,
    with_head,
)
from transfer.training.method import Job, Method, Trained


class NearestMean(Method):
    """A frozen backbone; an item belongs to the class whose mean is nearest.

    Mensink et al., TPAMI 2013; Snell, Swersky and Zemel, NeurIPS 2017 (prototypical networks).
    With mu_k the mean of the standardised features of class k over items and views,
    ``-|x - mu_k|^2 = 2 mu_k' x - |mu_k|^2 - |x|^2``: linear in x but for the last term, which all
    classes share. Scores are ``(2 mu_k' x - |mu_k|^2) / T``. The temperature T has the greatest
    likelihood for the labelled items, each scored by means computed without its group.
    """

    paper: ClassVar[str] = "Mensink et al., 2013; Snell, Swersky and Zemel, 2017"
    trains_backbone: ClassVar[bool] = False
    views: int = Field(8, ge=0)
    """Augmented views of each training item; 0 takes the items as they are."""

    def train(self, job: Job) -> Trained:
        network, transfers = frozen(job)
        rows, scaling = Rows.of(job, network, self.views).standardised()
        scores, temperature = fitted(rows)
        network = with_head(network, scaling.then(scores))
        return Trained(network, transfers, notes={"temperature": temperature})


def fitted(rows: Rows) -> tuple[Affine, float]:
    """Scores of the K classes, and the temperature T in them."""
    present = np.unique(rows.labels)
    if len(present) == 1:
        return constant(rows), 1.0
    sums, counts = _totals(rows, present)
    scores = spread(_nearness(sums / counts[:, None]), present, rows.classes)
    temperature = _temperature(rows, present)
    return cooled(scores, temperature, rows.labels), temperature


def _nearness(means: Reals) -> Affine:
    """Minus the squared distance to each of the means (C, D), plus the row's own square."""
    return Affine(2 * means, -np.square(means).sum(1))


def _totals(rows: Rows, present: np.ndarray) -> tuple[Reals, Reals]:
    """Sum of the features (C, D) and number of rows (C) of each of the C classes."""
    members = (rows.labels[None] == present[:, None]).astype(float)  # C x R
    return members @ rows.features, members.sum(1)


def _temperature(rows: Rows, present: np.ndarray) -> float:
    """T by leaving out one group at a time; a class with a single group does not count."""
    scores, judged = _left_out(rows, present)
    if not judged.any():
        return max(1.0, float(scores.std()))
    return temperature_of(scores[judged], np.searchsorted(present, rows.labels)[judged])


def _left_out(rows: Rows, present: np.ndarray) -> tuple[Reals, np.ndarray]:
    """Scores (R, C) by the means of the other groups, and whether these have the row's class (R).

    A class that the other groups lack gets the row's lowest score.
    """
    sums, counts = _totals(rows, present)
    scores, judged = np.zeros((len(rows.labels), len(present))), np.zeros(len(rows.labels), bool)
    for group in np.unique(rows.groups):
        chosen = rows.groups == group
        own_sums, own_counts = _totals(rows.where(chosen), present)
        left = counts - own_counts
        means = (sums - own_sums) / np.maximum(left, 1)[:, None]
        own_scores = _nearness(means)(rows.features[chosen])
        if (left > 0).any():
            own_scores[:, left == 0] = own_scores[:, left > 0].min(1, keepdims=True)
        scores[chosen] = own_scores
        judged[chosen] = (left > 0)[np.searchsorted(present, rows.labels[chosen])]
    return scores, judged


METHOD = NearestMean
