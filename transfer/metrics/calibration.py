"""Temperature scaling: class scores divided by one number, so that probabilities can be believed.

Shapes: N items, K classes.
"""

import math

import numpy as np
from numpy.typing import NDArray

from transfer.metrics.classification import check_scores

COLDEST, HOTTEST = 0.05, 20.0
PRIOR = 2.0
"""Standard deviation of log T before any item is seen."""


def softmax(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities of class scores, over the last axis; no score is too large."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Find T in 0.05..20 for which softmax(logits / T) fits labels that the logits did not see.

    Minimises mean NLL(T) + (log T)^2 / (2 N s^2) with s = 2 over log T: the negative log
    likelihood of Guo et al. (2017) and a normal prior on log T that weighs about as much as one
    item. Without it a small set on which every item is right would drive T to its lower bound and
    the next mistake to certainty; with hundreds of items it changes T by less than a percent.

    Args:
        logits: (N, K) class scores of held-out items.
        labels: (N,) of them.

    Raises:
        CrosstrainError: see `transfer.metrics.classification.check_scores`.
    """
    from scipy.optimize import minimize_scalar

    check_scores(logits, labels)
    scores = logits.astype(np.float64)
    below = scores - scores[np.arange(len(labels)), labels][:, None]  # N x K, 0 at the true class

    def cost(log_t: float) -> float:
        gaps = below * math.exp(-log_t)
        top = gaps.max(1)
        losses = top + np.log(np.exp(gaps - top[:, None]).sum(1))
        return float(losses.mean()) + (log_t / PRIOR) ** 2 / (2 * len(labels))

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    return math.exp(minimize_scalar(cost, bounds=bounds, method="bounded").x)
