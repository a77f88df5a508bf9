"""Temperature scaling: logits are divided by one number, so that probabilities are calibrated.

Shapes: N items, K classes.
"""

import math

import numpy as np
from numpy.typing import NDArray

from transfer.metrics.classification import check_scores

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
PRIOR = 2.0
"""Standard deviation of the prior on log T."""


def softmax(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities of class scores, over the last axis; large scores do not overflow."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Find T in 0.05..20 for which softmax(logits / T) fits labels that were not trained on.

    Minimises mean NLL(T) + (log T)^2 / (2 N s^2) with s = 2 over log T: the negative log
    likelihood of Guo et al. (2017) and a normal prior on log T that weighs about as much as one
    item. Without the prior, a small set on which every prediction is right would drive T to its
    lower bound, so that the next mistake would be made with certainty. With hundreds of items the
    prior changes T by less than a percent.

    Args:
        logits: (N, K) class scores of held-out items.
        labels: (N,) of them.

    Raises:
        CrosstrainError: see `transfer.metrics.classification.check_scores`.
    """
    from scipy.optimize import minimize_scalar

    check_scores(logits, labels)
    scores = logits.astype(np.float64)
    relative = scores - scores[np.arange(len(labels)), labels][:, None]  # N x K, 0 at true class

    def cost(log_t: float) -> float:
        gaps = relative * math.exp(-log_t)
        largest = gaps.max(1)
        losses = largest + np.log(np.exp(gaps - largest[:, None]).sum(1))
        return float(losses.mean()) + (log_t / PRIOR) ** 2 / (2 * len(labels))

    bounds = (math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE))
    return math.exp(minimize_scalar(cost, bounds=bounds, method="bounded").x)
