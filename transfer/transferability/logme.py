"""LogME: how probable the target's labels are under a linear model of the source's features."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transfer.transferability.feature_matrix import Floats, Labels, check_features, decompose

LEAST_NOISE = 1e-6
"""Smallest variance of the noise: without it, labels that the features predict exactly, in fewer
directions than items, would have infinite evidence."""
RATIOS = np.geomspace(1e-12, 1e6, 37)
"""Grid on which the search starts: alpha / beta in units of the largest squared singular value. At
the upper end the features have nearly no effect, at the lower end the prior has nearly none."""
STEPS, TOLERANCE = 500, 1e-6


@dataclass(frozen=True)
class _Classes:
    """The quantities on which the evidence of K classes depends."""

    squares: Floats  # R x 1, squared singular values
    along: Floats  # R x K, squared projections of y on the left singular vectors
    beyond: Floats  # K, squared length of y outside their span
    items: int


def logme(features: NDArray[np.floating], labels: Labels) -> float:
    """Log maximum evidence, per item and averaged over classes, in nats.

    You et al., "LogME: practical assessment of pre-trained models for transfer learning", ICML
    2021. For each class, y in {0, 1}^N is modelled as F w + noise with w ~ N(0, I / alpha) and
    noise ~ N(0, I / beta), so that y ~ N(0, F F' / alpha + I / beta); the score is
    max over alpha, beta of log p(y | F, alpha, beta) / N, with 1 / beta >= 1e-6. The maximum is
    found by the fixed point of You et al., "Ranking and tuning pre-trained models", JMLR 2022, on
    one singular value decomposition that all classes share. The evidence can have several maxima:
    each class starts from the best point of a grid.

    Rotating the features, scaling them or padding them with zeros does not change the score, and
    the prior on w makes useless dimensions cost evidence, so sources of different D can be
    compared. There is no intercept: subtracting the mean of the features changes the score.

    Args:
        features: (N, D) of the target's items.
        labels: (N,) of these items; only classes that occur count.

    Raises:
        CrosstrainError: see `transfer.transferability.feature_matrix.check_features`.
    """
    check_features(features, labels)
    left, singular = decompose(features)
    one_hot = np.equal.outer(labels, np.unique(labels)).astype(np.float64)  # N x K
    along = (left.T @ one_hot) ** 2
    beyond = np.maximum(one_hot.sum(0) - along.sum(0), 0)
    classes = _Classes(singular[:, None] ** 2, along, beyond, len(labels))
    return float(_max_log_evidence(classes).mean() / len(labels))


def _max_log_evidence(classes: _Classes) -> Floats:
    """Log maximum evidence of each class (K,)."""
    largest = classes.squares.max(initial=1e-300)
    starts = np.repeat(RATIOS[:, None] * largest, len(classes.beyond), 1)
    evidence = np.array([_log_evidence(ratio, classes) for ratio in starts])
    ratio = starts[evidence.argmax(0), np.arange(len(classes.beyond))]
    for _ in range(STEPS):
        updated = _update(ratio, classes).clip(starts[0], starts[-1])
        change = np.abs(np.log(updated / ratio)).max()
        ratio = updated
        if change < TOLERANCE:
            break
    return np.maximum(_log_evidence(ratio, classes), evidence.max(0))


def _log_evidence(ratio: Floats, classes: _Classes) -> Floats:
    """Log evidence (K,) where alpha / beta is ratio (K,) and beta is the best for that ratio."""
    squares, items = classes.squares, classes.items
    unexplained = (ratio / (ratio + squares) * classes.along).sum(0) + classes.beyond
    beta = items / np.maximum(unexplained, items * LEAST_NOISE)
    volume = np.log1p(squares / ratio).sum(0)
    return (items * np.log(beta / (2 * math.pi)) - volume - beta * unexplained) / 2


def _update(ratio: Floats, classes: _Classes) -> Floats:
    """Next alpha / beta (K,), for alpha = gamma / |m|^2 and beta = (N - gamma) / |F m - y|^2.

    m is the posterior mean of w at ratio and gamma the effective number of its dimensions.
    """
    left_over = ratio / (ratio + classes.squares)  # R x K, shrinkage along each direction
    gamma = (1 - left_over).sum(0)
    length = ((1 - left_over) ** 2 * classes.along / classes.squares).sum(0)
    residual = (left_over**2 * classes.along).sum(0) + classes.beyond
    noise = residual / np.maximum(classes.items - gamma, 1e-300)
    return gamma * np.maximum(noise, LEAST_NOISE) / np.maximum(length, 1e-300)
