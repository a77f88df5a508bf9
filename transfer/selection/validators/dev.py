"""The error that a model would make on the target, from weighted source items."""

import numpy as np

from transfer.selection.validator import Floats, Seen, Validator

PENALTY = 0.01
"""Of the domain classifier: mean log loss + PENALTY / 2 * ||coefficients||^2."""
LARGEST_LOG_WEIGHT = 30.0
LEAST_VARIATION = 1e-6
"""Weights whose standard deviation is below this share of their mean are taken as equal."""


def score(seen: Seen) -> float:
    """Deep embedded validation (You et al., ICML 2019), negative.

    w(x) = T/N * P(target | x) / P(source | x), by a logistic regression on standardised features
    that tells target items from source items trained on. l is the 0/1 loss of held-out source
    items. risk = mean(w l) + eta mean(w) - eta with the control variate
    eta = -cov(w l, w) / var(w); score = -risk.

    The risk estimates an error rate, but is not held to 0..1: few source items of large weight can
    throw it far off. Where weights do not vary, the risk is its limit, mean(l). It promises a
    target error only where labels depend on features in both domains alike, and where some source
    items look like those of the target.
    """
    wrong = (seen.source_logits.argmax(1) != seen.source_labels).astype(np.float64)
    return -_risk(_weights(seen), wrong)


def _risk(weights: Floats, losses: Floats) -> float:
    centred = weights - weights.mean()
    variance = float((centred**2).mean())
    if variance <= (LEAST_VARIATION * weights.mean()) ** 2:
        return float(losses.mean())
    weighted = weights * losses
    eta = -float((weighted * centred).mean()) / variance
    return float(weighted.mean()) + eta * (float(weights.mean()) - 1)


def _weights(seen: Seen) -> Floats:
    """Density ratio of target to source at the held-out source items, (M,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    both = np.concatenate([seen.train_features, seen.features], dtype=np.float64)
    is_target = np.arange(len(both)) >= len(seen.train_features)
    told = LogisticRegression(C=1 / (PENALTY * len(both)), max_iter=1000, tol=1e-6)
    domain = make_pipeline(StandardScaler(), told).fit(both, is_target)
    odds = domain.decision_function(seen.source_features.astype(np.float64))
    log_weights = odds + np.log(len(seen.train_features) / len(seen.features))
    weights: Floats = np.exp(log_weights.clip(-LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT))
    return weights


VALIDATOR = Validator("dev", reads_source=True, score=score)
