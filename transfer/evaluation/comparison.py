"""Compares two models with confidence intervals over test items and seeds.

Shapes: A arms (method x seed), N items, K classes.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from transfer.core.errors import CrosstrainError, SettingsError
from transfer.evaluation.report_schema import Gain, Verdict
from transfer.metrics import bootstrap, classification
from transfer.selection import ensemble

Floats = NDArray[np.float64]

METRICS = {
    "accuracy": classification.accuracy,
    "balanced_accuracy": classification.balanced_accuracy,
}


def proportion_interval(right: float, items: float, *, level: float) -> tuple[float, float]:
    """Wilson score interval (1927) of a share, such as a model's accuracy.

    A bootstrap interval has width 0 when all items are right or all are wrong; this one does not.
    ``items`` may be an effective number of items, where the share is an estimate.

    Raises:
        CrosstrainError: there are no items, or ``right`` is not in 0..items.
    """
    if items < 1 or not 0 <= right <= items:
        raise CrosstrainError(f"found {right} right of {items} items; expected 0..items, items > 0")
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre = right + z2 / 2
    half = (z2 * (right * (items - right) / items + z2 / 4)) ** 0.5
    low, high = ((centre + sign * half) / (items + z2) for sign in (-1, 1))
    return max(low, 0.0) if right else 0.0, min(high, 1.0) if right < items else 1.0


def paired_gain(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    chosen: Floats,
    scratch: Floats,
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    metric: str = "accuracy",
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Gain:
    """Measure how much better one mix of arms is than another on the same items.

    The interval is that of `transfer.metrics.bootstrap`. Mixes of equal weights are the same model:
    the gain and its interval are exactly 0.

    Args:
        probabilities: (A, N, K), calibrated.
        labels: (N,).
        chosen: (A,) weights of the mix that is measured.
        scratch: (A,) weights of the mix that is subtracted.
        methods: (A,) name of each arm's method.
        seeds: (A,) seed of each arm.
        metric: a key of `METRICS`.
        level: confidence level.
        replicates: number of bootstrap replicates.
        seed: random seed of the bootstrap.

    Raises:
        SettingsError: the metric does not exist.
        CrosstrainError: the arguments do not fit together (`transfer.metrics.classification.check`,
            `transfer.selection.ensemble.combine`), or an arm is listed twice.
    """
    arms = _arms(methods, seeds, len(probabilities))
    chosen_score, baseline_score = (
        _score(metric, probabilities, labels, mix) for mix in (chosen, scratch)
    )
    if np.allclose(chosen, scratch):
        return Gain(metric=metric, point=0.0, low=0.0, high=0.0)
    low, high = bootstrap.paired_interval(
        probabilities,
        labels,
        (chosen, scratch),
        arms,
        by_class=metric == "balanced_accuracy",
        level=level,
        replicates=replicates,
        seed=seed,
    )
    return Gain(metric=metric, point=chosen_score - baseline_score, low=low, high=high)


def _arms(methods: Sequence[str], seeds: Sequence[int], count: int) -> list[tuple[str, int]]:
    arms = list(zip(methods, seeds, strict=True))
    if len(arms) != count or len(set(arms)) != count:
        raise CrosstrainError(
            f"found predictions of {count} arms and the names {arms}; expected each method and "
            "seed once"
        )
    return arms


def _score(
    metric: str, probabilities: NDArray[np.floating], labels: NDArray[np.int64], mix: Floats
) -> float:
    if metric not in METRICS:
        raise SettingsError(f"found metric {metric!r}; expected one of {', '.join(METRICS)}")
    return METRICS[metric](ensemble.combine(probabilities, mix), labels)


def verdict(gain: Gain) -> Verdict:
    """Positive when the whole interval is above 0, negative when it is below, none otherwise."""
    if gain.low > 0:
        return "positive"
    return "negative" if gain.high < 0 else "none"


_CLAIMS: dict[Verdict, tuple[str, str]] = {
    "positive": ("helps", "over"),
    "none": ("makes no difference that this test can tell", "against"),
    "negative": ("hurts", "against"),
}


BASELINES = {
    "scratch": "training from scratch",
    "source_only": "the source's network as it is",
}


def sentence(
    source: str,
    gain: Gain,
    verdict: Verdict,
    items: int,
    seeds: int,
    *,
    baseline: str = "scratch",
) -> str:
    """State the effect of transfer from a source in one sentence, with the figures.

    Args:
        source: name of the source.
        gain: gain of the model that uses the source, over the baseline.
        verdict: verdict on that gain.
        items: number of items of the test split.
        seeds: number of seeds that were trained.
        baseline: a key of `BASELINES`.
    """
    claim, preposition = _CLAIMS[verdict]
    subject = "Transfer" if baseline == "scratch" else "Adaptation"
    return (
        f"{subject} from {source} {claim}: {points(gain)} {preposition} {BASELINES[baseline]} "
        f"({items} test item{'s' * (items != 1)}, {seeds} seed{'s' * (seeds != 1)}), "
        f"verdict {verdict}."
    )


def points(gain: Gain) -> str:
    """Write a gain in percentage points, such as ``+2.3 points accuracy [1.1, 3.6]``."""
    point, low, high = (round(100 * x, 1) + 0.0 for x in (gain.point, gain.low, gain.high))
    return f"{point:+.1f} points {gain.metric.replace('_', ' ')} [{low:.1f}, {high:.1f}]"
