"""Chooses which arms to combine, and their weights, on out-of-fold predictions.

Shapes: A arms, M methods, N items, K classes. The log loss of a mix depends only on the
probabilities of the true classes by each arm: the likelihoods (A, N), raised to
`transfer.metrics.classification.SMALLEST` where they are smaller.
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
GREEDY_STEPS = 50
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


def _one_hot(row: int, rows: int) -> Floats:
    return (np.arange(rows) == row).astype(np.float64)


def _uniform_method(likelihoods: Floats) -> Floats:
    return _one_hot(int(_loss(likelihoods).mean(1).argmin()), len(likelihoods))


def _uniform(likelihoods: Floats) -> Floats:
    return np.full(len(likelihoods), 1 / len(likelihoods))


def _greedy(likelihoods: Floats) -> Floats:
    counts = np.zeros(len(likelihoods))
    total, lowest, weights = np.zeros(likelihoods.shape[1]), np.inf, counts
    for size in range(1, GREEDY_STEPS + 1):
        losses = _loss((total + likelihoods) / size).mean(1)
        row = int(losses.argmin())
        total = total + likelihoods[row]
        counts[row] += 1
        if losses[row] < lowest:
            lowest, weights = losses[row], counts / size
    return weights


def _weighted(likelihoods: Floats) -> Floats:
    weights = _uniform(likelihoods)
    for _ in range(EM_STEPS):
        factors = likelihoods @ (1 / (weights @ likelihoods)) / likelihoods.shape[1]
        if factors.max() - 1 <= EM_GAP:  # the loss is convex, so it is within EM_GAP of its minimum
            break
        weights = weights * factors
    return weights / weights.sum()


MIXES: dict[str, Callable[[Floats], Floats]] = {
    "uniform_method": _uniform_method,
    "uniform": _uniform,
    "greedy": _greedy,
    "weighted": _weighted,
}
SCHEMES = ("uniform_method", "best", "uniform", "greedy", "weighted")
"""The schemes; of schemes that are not worse than the best, an earlier one is preferred:

- uniform_method: all seeds of the method whose average has the lowest mean log loss;
- best: a single arm, of the method whose arms have the lowest mean log loss;
- uniform: all methods;
- greedy: greedy selection of methods with replacement in 50 steps, cut off at the lowest log loss
  (Caruana et al. 2004);
- weighted: the weights of methods that minimise the log loss of the weighted sum of probabilities,
  by expectation maximisation of a mixture (Dempster et al. 1977).

The seeds of a method are exchangeable, so they share its weight, and no scheme may prefer a seed:
of a dozen arms evaluated on a hundred items, the best is mainly lucky. uniform_method comes before
best because -log is convex: the log loss of the average of all seeds is never above their mean log
loss."""


def _arm_shares(methods: Sequence[str]) -> Floats:
    """Share of each arm in its method: (M, A), rows sum to 1."""
    rows = np.array([[m == method for m in methods] for method in dict.fromkeys(methods)], float)
    shares: Floats = rows / rows.sum(1, keepdims=True)
    return shares


def _fit(scheme: str, likelihoods: Floats, methods: Sequence[str]) -> Floats:
    shares = _arm_shares(methods)
    if scheme == "best":
        losses = _loss(likelihoods).mean(1)
        rows = shares[int((shares @ losses).argmin())] > 0
        return _one_hot(int(np.where(rows, losses, np.inf).argmin()), len(likelihoods))
    weights = MIXES[scheme](shares @ likelihoods)
    kept = np.where(weights >= min(LEAST_WEIGHT, weights.max()), weights, 0)
    return kept / kept.sum() @ shares


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
    likelihoods = probabilities[:, np.arange(len(labels)), labels]
    return likelihoods.astype(np.float64).clip(classification.SMALLEST)


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
        Weights (A,), not negative, with sum 1; methods with a weight below 0.001 are dropped.

    Raises:
        SettingsError: the scheme does not exist.
        CrosstrainError: the arguments do not fit together
        (`transfer.metrics.classification.check`).
    """
    _check_schemes([scheme])
    return _fit(scheme, _likelihoods(probabilities, labels, methods), methods)


def _check_schemes(schemes: Sequence[str]) -> None:
    unknown = [scheme for scheme in schemes if scheme not in SCHEMES]
    if unknown or not schemes:
        raise SettingsError(
            f"found ensemble schemes {list(schemes)}; expected at least one of {list(SCHEMES)}"
        )


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
    that overfitting of flexible schemes is counted. Then the one-standard-error rule (Breiman et
    al. 1984) is applied to paired losses: the first scheme in the order of `SCHEMES` is chosen
    whose mean difference to the lowest log loss is at most one standard error of that difference.

    Args:
        probabilities: (A, N, K), calibrated, of items that the arms did not train on.
        labels: (N,) of those items.
        methods: (A,) name of each arm's method.
        folds: largest number of folds.
        seed: random seed of the folds.
        schemes: the schemes to compare, in any order.

    Raises:
        SettingsError: a scheme is unknown, or no scheme is given.
        CrosstrainError: there are fewer than 2 items, or the arguments do not fit together
            (`transfer.metrics.classification.check`).
    """
    _check_schemes(schemes)
    likelihoods = _likelihoods(probabilities, labels, methods)
    if len(labels) < 2:
        raise CrosstrainError(f"found {len(labels)} item to choose on; expected at least 2")
    names = [str(i) for i in range(len(labels))]
    fold = fold_files.assign(labels, names, min(folds, len(labels)), seed)
    losses = {s: _crossfit(s, likelihoods, methods, fold) for s in SCHEMES if s in schemes}
    scheme = _simplest(losses)
    scores = {name: float(loss.mean()) for name, loss in losses.items()}
    return EnsembleChoice(scheme, _fit(scheme, likelihoods, methods), scores)


def _crossfit(
    scheme: str, likelihoods: Floats, methods: Sequence[str], fold: NDArray[np.int64]
) -> Floats:
    """Loss (N,) of each item with weights fitted on the other folds. For the scheme best, the mean
    loss of all arms of the chosen method is used: the best seed on new items is unknown."""
    losses = np.empty(likelihoods.shape[1])
    for test_fold in np.unique(fold):
        weights = _fit(scheme, likelihoods[:, fold != test_fold], methods)
        test_likelihoods = likelihoods[:, fold == test_fold]
        if scheme == "best":
            method = methods[int(weights.argmax())]
            losses[fold == test_fold] = _loss(
                test_likelihoods[[m == method for m in methods]]
            ).mean(0)
        else:
            losses[fold == test_fold] = _loss(weights @ test_likelihoods)
    return losses


def _simplest(losses: dict[str, Floats]) -> str:
    lowest = min(losses.values(), key=np.mean)
    for scheme, loss in losses.items():
        excess = loss - lowest
        if excess.mean() <= excess.std(ddof=1) / np.sqrt(len(excess)) + ROUNDING:
            return scheme
    raise AssertionError("the scheme of lowest loss has no excess over itself")
