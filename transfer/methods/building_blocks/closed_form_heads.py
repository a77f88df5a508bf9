"""Closed-form classifiers on the features of a frozen backbone, folded into one head.

Standardisation, projection and classifier are affine maps, and so is their composition: the final
network is an ordinary one. Shapes: V views, N items, R = V x N rows, D features, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from transfer.core.errors import CrosstrainError
from transfer.data.splits.folds import assign
from transfer.metrics.calibration import fit_temperature
from transfer.models.network import Network
from transfer.models.parameter_transfer import Transfer
from transfer.training.method import Job, receive

Reals = NDArray[np.float64]

UNSEEN = 10.0
"""How far the score of a class without a labelled item is below the mean score of the others: the
class is never predicted, and an item of it has a finite log loss."""


@dataclass(frozen=True)
class Affine:
    """The map x -> weight x + bias."""

    weight: Reals  # M x D
    bias: Reals  # M

    def __call__(self, rows: Reals) -> Reals:
        """Values (R, M) of rows (R, D)."""
        return rows @ self.weight.T + self.bias

    def then(self, later: "Affine") -> "Affine":
        """This map followed by another, as one."""
        return Affine(later.weight @ self.weight, later.weight @ self.bias + later.bias)


@dataclass(frozen=True)
class Rows:
    """Features of labelled items: all items in their first view, then in their second, and so on.

    An item's views share its group, so folds that keep groups whole keep items whole.
    """

    features: Reals  # R x D
    labels: NDArray[np.int64]  # R
    groups: NDArray[np.str_]  # R
    classes: int  # K
    views: int  # V

    @classmethod
    def of(cls, job: Job, network: Network, views: int) -> "Rows":
        """Features of all labelled items of a job by the network's backbone.

        Raises:
            CrosstrainError: the job has no labelled item.
        """
        if not len(job.labelled):
            raise CrosstrainError(
                "found no labelled item to fit a classifier on; expected one or more: label some, "
                "or choose a method that needs no labels"
            )
        features = job.embed(network, views).double().numpy()  # V x N x D
        n = len(features)
        return cls(
            features.reshape(-1, features.shape[2]),
            np.tile(job.labelled.labels.numpy(), n),
            np.tile(job.labelled.groups, n),
            len(job.class_names),
            n,
        )

    def where(self, chosen: NDArray[np.bool_]) -> "Rows":
        """The rows where ``chosen`` (R bool) is true."""
        parts = self.features[chosen], self.labels[chosen], self.groups[chosen]
        return Rows(*parts, self.classes, self.views)

    def standardised(self) -> tuple["Rows", Affine]:
        """Rows whose features have mean 0 and standard deviation 1, and the map to them.

        A feature that does not vary, up to rounding, is only centred.
        """
        mean, std = self.features.mean(0), self.features.std(0)
        noise = 1e-7 * np.abs(self.features).max(0)
        scale = np.where(std > noise, std, 1.0)
        scaled = (self.features - mean) / scale
        return replace(self, features=scaled), Affine(np.diag(1 / scale), -mean / scale)


class Linear(Protocol):
    """A fitted linear classifier of scikit-learn."""

    coef_: Reals  # C x D for C classes, 1 x D for two
    intercept_: Reals  # C, or 1 for two classes
    classes_: NDArray[np.int64]  # C


Path = Callable[[Rows, Sequence[float]], list[Affine]]
"""Fits one classifier (K x D) on the rows for each candidate of a hyperparameter."""


def frozen(job: Job) -> tuple[Network, list[Transfer]]:
    """The source's backbone with a head that is still to be fitted, and the transfer map.

    Raises:
        ValueError: there is no source to take from.
    """
    network = job.network()
    transfers = receive(network, job.knowledge, job.class_names)
    fitted = {"action": "reinitialised", "detail": "fitted in closed form"}
    return network, [
        t.model_copy(update=fitted) if t.tensor.startswith("head.") else t for t in transfers
    ]


def with_head(network: Network, scores: Affine) -> Network:
    """The network, finished: its head scores features as ``scores`` (K x D) does."""
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(scores.weight))
        network.head.bias.copy_(torch.from_numpy(scores.bias))
    return network.requires_grad_(False).eval()


def spread(own: Affine, labels: NDArray[np.int64], classes: int) -> Affine:
    """Scores of all K classes from the scores ``own`` of C classes, whose numbers are ``labels``.

    The score of any other class is `UNSEEN` below their mean, whatever the features.
    """
    weight = np.tile(own.weight.mean(0), (classes, 1))
    bias = np.full(classes, own.bias.mean() - UNSEEN)
    weight[labels], bias[labels] = own.weight, own.bias
    return Affine(weight, bias)


def constant(rows: Rows) -> Affine:
    """Scores that predict the only class of the rows."""
    zero = Affine(np.zeros((1, rows.features.shape[1])), np.zeros(1))
    return spread(zero, rows.labels[:1], rows.classes)


def scores_of(model: Linear, classes: int) -> Affine:
    """Scores of K classes from a classifier fitted on some of them.

    For two classes scikit-learn stores only the difference of the scores: each gets half of it.
    """
    weight, bias = np.asarray(model.coef_, float), np.asarray(model.intercept_, float)
    if len(weight) == 1:
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return spread(Affine(weight, bias), model.classes_, classes)


def logistic(rows: Rows, strengths: Sequence[float]) -> list[Affine]:
    """Multinomial logistic regressions with an L2 penalty, one for each inverse strength C.

    Minimises |w|^2 / 2 + C / V * (sum of the rows' log losses): an item counts once, however many
    views it has. Each fit starts where the one before it ended. By Newton's method with conjugate
    gradients: on 1,280 features of few items it takes a tenth of L-BFGS's time or less.
    """
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(rows.labels)) == 1:
        return [constant(rows)] * len(strengths)
    model = LogisticRegression(solver="newton-cg", tol=1e-6, max_iter=2000, warm_start=True)
    classifiers = []
    for strength in strengths:
        model.set_params(C=strength / rows.views).fit(rows.features, rows.labels)
        classifiers.append(scores_of(model, rows.classes))
    return classifiers


def losses(scores: Reals, labels: NDArray[np.int64]) -> Reals:
    """Log loss (R) of class scores (R, K)."""
    from scipy.special import log_softmax

    return -log_softmax(scores, axis=1)[np.arange(len(labels)), labels]


def cooled(scores: Affine, temperature: float, labels: NDArray[np.int64]) -> Affine:
    """Scores divided by a temperature; a class without a label stays `UNSEEN` below the mean."""
    present = np.unique(labels)
    own = Affine(scores.weight[present] / temperature, scores.bias[present] / temperature)
    return spread(own, present, len(scores.bias))


def temperature_of(scores: Reals, labels: NDArray[np.int64]) -> float:
    """T for which softmax(scores / T) fits labels, whatever the unit of the scores (R, K).

    `transfer.metrics.calibration.fit_temperature` searches between fixed bounds, so it is given the
    scores in units of their mean standard deviation over the classes, or of 1 where they do not
    differ.
    """
    unit = float(scores.std(1).mean()) or 1.0
    return unit * fit_temperature(scores / unit, labels)


def out_of_fold(
    rows: Rows, path: Path, candidates: Sequence[float], folds: int, seed: int
) -> tuple[Reals, NDArray[np.bool_]]:
    """Cross-validation within the rows; a group is never cut.

    Args:
        rows: the labelled rows.
        path: fits one classifier for each candidate.
        candidates: values of the hyperparameter.
        folds: number of folds; never more than there are groups.
        seed: of the folds.

    Returns:
        Scores (len(candidates), R, K), each row's from a classifier that was not fitted on its
        group; and which rows (R bool) count. A row does not count if its class is missing from the
        rows that its classifier was fitted on, since no candidate can predict that class.
    """
    scores = np.zeros((len(candidates), len(rows.labels), rows.classes))
    judged = np.zeros(len(rows.labels), bool)
    groups = len(np.unique(rows.groups))
    if groups == 1:
        return scores, judged
    fold_of = assign(rows.labels, rows.groups.tolist(), min(folds, groups), seed)
    for fold in np.unique(fold_of):
        train = rows.where(fold_of != fold)
        held = (fold_of == fold) & np.isin(rows.labels, train.labels)
        if held.any():
            maps = path(train, candidates)
            scores[:, held] = [scores_map(rows.features[held]) for scores_map in maps]
            judged |= held
    return scores, judged


def choose(rows: Rows, path: Path, candidates: Sequence[float], folds: int, seed: int) -> float:
    """The candidate with the least log loss out of fold, the first of equal ones.

    The middle candidate if no row counts, or if there is only one. Arguments
    are those of `out_of_fold`.
    """
    middle = candidates[len(candidates) // 2]
    if len(candidates) == 1:
        return middle
    scores, judged = out_of_fold(rows, path, candidates, folds, seed)
    if not judged.any():
        return middle
    return min(
        zip(candidates, scores, strict=True),
        key=lambda scored: float(losses(scored[1][judged], rows.labels[judged]).sum()),
    )[0]
