"""Which arms to combine and with which weights, chosen on out-of-fold predictions.

Shapes: A arms, N items, K classes. The log loss of a mix only depends on what each arm gives the
true class, its likelihoods (A, N), which are raised to `metrics.SMALLEST` where smaller.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transfer.core.errors import CrosstrainError, SettingsError
from transfer.data.splits import folds as fold_files
from transfer.metrics import classification

Floats = NDArray[np.float64]

LEAST_WEIGHT = 1e-3
GREEDY_ROUNDS = 50
EM_STEPS = 5000
EM_GAP = 1e-6  # nats
ROUNDING = 1e-9  # nats


@dataclass(frozen=True)
class EnsembleChoice:
    """The chosen scheme, its weights (A,), and the cross-fitted mean log loss of each scheme."""

    scheme: str
    weights: Floats
    scores: dict[str, float]


def combine(probabilities: NDArray[np.floating], weights: Floats) -> Floats:
    """Mix the probabilities (A, N, K) of arms by weights (A,) into (N, K).

    Raises:
        CrosstrainError: the weights are not A non-negative numbers that sum to 1.
    """
    weights = np.asarray(weights, np.float64)
    fits = weights.shape == probabilities.shape[:1] and (weights >= 0).all()
    if not fits or not np.isclose(weights.sum(), 1):
        raise CrosstrainError(
            f"found weights {weights.tolist()} for {len(probabilities)} arms; expected one for "
            "each arm, not negative, that sum to 1"
        )
    mixed: Floats = np.tensordot(weights, probabilities, 1)
    return mixed


def _loss(mixed: Floats) -> Floats:
    return -np.log(mixed)


def _one(row: int, rows: int) -> Floats:
    return (np.arange(rows) == row).astype(np.float64)


def _uniform_method(likelihoods: Floats) -> Floats:
    return _one(int(_loss(likelihoods).mean(1).argmin()), len(likelihoods))


def _uniform(likelihoods: Floats) -> Floats:
    return np.full(len(likelihoods), 1 / len(likelihoods))


def _greedy(likelihoods: Floats) -> Floats:
    picks = np.zeros(len(likelihoods))
    total, lowest, weights = np.zeros(likelihoods.shape[1]), np.inf, picks
    for size in range(1, GREEDY_ROUNDS + 1):
        losses = _loss((total + likelihoods) / size).mean(1)
        row = int(losses.argmin())
        total = total + likelihoods[row]
        picks[row] += 1
        if losses[row] < lowest:
            lowest, weights = losses[row], picks / size
    return weights


def _weighted(likelihoods: Floats) -> Floats:
    weights = _uniform(likelihoods)
    for _ in range(EM_STEPS):
        pull = likelihoods @ (1 / (weights @ likelihoods)) / likelihoods.shape[1]
        if pull.max() - 1 <= EM_GAP:  # the loss is within this of its minimum, being convex
            break
        weights = weights * pull
    return weights / weights.sum()


MIXES: dict[str, Callable[[Floats], Floats]] = {
    "uniform_method": _uniform_method,
    "uniform": _uniform,
    "greedy": _greedy,
    "weighted": _weighted,
}
SCHEMES = ("uniform_method", "best", "uniform", "greedy", "weighted")
"""In the order of preference among schemes that are not worse: all seeds of the method whose
average has the lowest mean log loss; one arm of the method whose arms have the lowest; all methods;
greedy selection of methods with replacement from 50 rounds, kept at its best (Caruana et al. 2004);
the weights of methods that minimise the log loss of the weighted sum of probabilities, by
expectation maximisation of a mixture (Dempster et al. 1977).

The seeds of a method are exchangeable, so they share its weight, and no scheme may prefer a seed:
among a dozen arms judged on a hundred items, the best is the luckiest. All seeds come before one
arm because -log is convex: their average never has a higher log loss than they have on average."""


def _seats(methods: Sequence[str]) -> Floats:
    """Spread each method over its arms: (M, A), rows sum to 1."""
    rows = np.array([[m == method for m in methods] for method in dict.fromkeys(methods)], float)
    seats: Floats = rows / rows.sum(1, keepdims=True)
    return seats


def _fit(scheme: str, likelihoods: Floats, methods: Sequence[str]) -> Floats:
    seats = _seats(methods)
    if scheme == "best":
        losses = _loss(likelihoods).mean(1)
        rows = seats[int((seats @ losses).argmin())] > 0
        return _one(int(np.where(rows, losses, np.inf).argmin()), len(likelihoods))
    weights = MIXES[scheme](seats @ likelihoods)
    kept = np.where(weights >= min(LEAST_WEIGHT, weights.max()), weights, 0)
    return kept / kept.sum() @ seats


def _likelihoods(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64], methods: Sequence[str]
) -> Floats:
    if probabilities.ndim != 3 or not len(probabilities) or len(methods) != len(probabilities):
        raise CrosstrainError(
            f"found predictions of shape {probabilities.shape} and {len(methods)} method names; "
            "expected (arms, items, classes) and a name for each arm"
        )
    for arm in probabilities:
        classification.check(arm, labels)
    true = probabilities[:, np.arange(len(labels)), labels]
    return true.astype(np.float64).clip(classification.SMALLEST)


def fit(
    scheme: str,
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    methods: Sequence[str],
) -> Floats:
    """Fit the weights of one scheme.

    Args:
        scheme: a key of `SCHEMES`.
        probabilities: (A, N, K), calibrated, of items that the arms did not train on.
        labels: (N,) of those items.
        methods: (A,) name of each arm's method.

    Returns:
        (A,) not negative, sum 1; methods of a weight below 0.001 are dropped.

    Raises:
        SettingsError: there is no such scheme.
        CrosstrainError: the arguments do not fit together
        (`transfer.metrics.classification.check`).
    """
    _known([scheme])
    return _fit(scheme, _likelihoods(probabilities, labels, methods), methods)


def _known(schemes: Sequence[str]) -> None:
    unknown = [scheme for scheme in schemes if scheme not in SCHEMES]
    if unknown or not schemes:
        raise SettingsError(f"found ensemble schemes {list(schemes)}; expected of {list(SCHEMES)}")


def choose(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    methods: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 0,
    schemes: Sequence[str] = SCHEMES,
) -> EnsembleChoice:
    """Choose the simplest scheme that is not worse than the best one, and fit it on all items.

    Each scheme is scored by stratified cross-fitting: its weights come from the other folds, so
    that a scheme pays for its freedom. Then the one-standard-error rule (Breiman et al. 1984) on
    paired losses: the first scheme in the order of `SCHEMES` whose mean difference to the lowest
    log loss is at most one standard error of that difference.

    Args:
        probabilities: (A, N, K), calibrated, of items that the arms did not train on.
        labels: (N,) of those items.
        methods: (A,) name of each arm's method.
        folds: at most how many.
        seed: of the folds.
        schemes: those to consider, in any order.

    Raises:
        SettingsError: a scheme is unknown or none is given.
        CrosstrainError: there are fewer than 2 items, or the arguments do not fit together
            (`transfer.metrics.classification.check`).
    """
    _known(schemes)
    likelihoods = _likelihoods(probabilities, labels, methods)
    if len(labels) < 2:
        raise CrosstrainError(f"found {len(labels)} item to choose on; expected 2 or more")
    names = [str(i) for i in range(len(labels))]
    fold = fold_files.assign(labels, names, min(folds, len(labels)), seed)
    losses = {s: _crossfit(s, likelihoods, methods, fold) for s in SCHEMES if s in schemes}
    scheme = _simplest(losses)
    scores = {name: float(loss.mean()) for name, loss in losses.items()}
    return EnsembleChoice(scheme, _fit(scheme, likelihoods, methods), scores)


def _crossfit(
    scheme: str, likelihoods: Floats, methods: Sequence[str], fold: NDArray[np.int64]
) -> Floats:
    """Loss (N,) of each item by weights of the other folds. A single arm counts for what its
    method's arms lose on average: which seed is the lucky one will not be known in use."""
    losses = np.empty(likelihoods.shape[1])
    for held in np.unique(fold):
        weights = _fit(scheme, likelihoods[:, fold != held], methods)
        judged = likelihoods[:, fold == held]
        if scheme == "best":
            method = methods[int(weights.argmax())]
            losses[fold == held] = _loss(judged[[m == method for m in methods]]).mean(0)
        else:
            losses[fold == held] = _loss(weights @ judged)
    return losses


def _simplest(losses: dict[str, Floats]) -> str:
    lowest = min(losses.values(), key=np.mean)
    for scheme, loss in losses.items():
        excess = loss - lowest
        if excess.mean() <= excess.std(ddof=1) / np.sqrt(len(excess)) + ROUNDING:
            return scheme
    raise AssertionError("the scheme of lowest loss is within any error of itself")
