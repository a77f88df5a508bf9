"""Error rate on the target, estimated from weighted source items."""

import numpy as np

from transfer.selection.validator import CandidateOutputs, Floats, Validator

PENALTY = 0.01
"""L2 penalty of the domain classifier: mean log loss + PENALTY / 2 * ||coefficients||^2."""
LARGEST_LOG_WEIGHT = 30.0
LEAST_VARIATION = 1e-6
"""Weights whose standard deviation is below this share of their mean count as equal."""


def score(candidate: CandidateOutputs) -> float:
    """Deep embedded validation (You et al., ICML 2019), negative.

    w(x) = T/N * P(target | x) / P(source | x), by a logistic regression on standardised features
    that separates target items from source items of the training split. l is the 0/1 loss of
    held-out source items. risk = mean(w l) + eta mean(w) - eta with the control variate
    eta = -cov(w l, w) / var(w); score = -risk.

    The risk estimates an error rate but is not limited to 0..1: few source items of large weight
    can make it very inaccurate. Where the weights do not vary, the risk is its limit, mean(l). It
    promises the target error only where labels depend on features in the same way in both domains,
    and where some source items are similar to those of the target.
    """
    wrong = (candidate.source_logits.argmax(1) != candidate.source_labels).astype(np.float64)
    return -_risk(_weights(candidate), wrong)


def _risk(weights: Floats, losses: Floats) -> float:
    centred = weights - weights.mean()
    variance = float((centred**2).mean())
    if variance <= (LEAST_VARIATION * weights.mean()) ** 2:
        return float(losses.mean())
    weighted = weights * losses
    eta = -float((weighted * centred).mean()) / variance
    return float(weighted.mean()) + eta * (float(weights.mean()) - 1)


def _weights(candidate: CandidateOutputs) -> Floats:
    """Density ratio of target to source at the held-out source items, (M,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.concatenate([candidate.train_features, candidate.features], dtype=np.float64)
    is_target = np.arange(len(features)) >= len(candidate.train_features)
    classifier = LogisticRegression(C=1 / (PENALTY * len(features)), max_iter=1000, tol=1e-6)
    domain_classifier = make_pipeline(StandardScaler(), classifier).fit(features, is_target)
    odds = domain_classifier.decision_function(candidate.source_features.astype(np.float64))
    log_weights = odds + np.log(len(candidate.train_features) / len(candidate.features))
    weights: Floats = np.exp(log_weights.clip(-LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT))
    return weights


VALIDATOR = Validator("dev", reads_source=True, score=score)
