"""Tests of whether new data has the distribution of the model's own data.

Each test compares new items with the model's reference, items that it was not trained on. Under
the hypothesis that both come from one distribution, all ways to divide the pooled items into the
two samples are equally likely, so a permutation test is exact at any size, with ties, and whatever
the statistic (Phipson and Smyth, 2010). The p-values are adjusted by Holm (1979): the chance that
any of them is at most ``level`` where nothing has drifted is at most ``level``.

Shapes: M reference items, N new items, D features, K classes, P permutations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from transfer.core.config import Section
from transfer.deployment.monitoring.reference import Outputs, Reference
from transfer.transferability import domain_distance

Floats = NDArray[np.float64]
Numbers = NDArray[np.floating]
Name = Literal["features", "summary", "labels", "confidence", "rejects", "accuracy"]
TESTS: tuple[Name, ...] = ("features", "summary", "labels", "confidence", "rejects", "accuracy")
EQUAL = 1e-12  # statistics with a smaller difference count as equal: it is rounding
BLOCK = 2_000_000  # numbers permuted at once


class MonitorSettings(Section):
    """When new data counts as drifted, and whether drift starts a retrain."""

    level: float = Field(0.01, gt=0, lt=1)
    """Significance level: probability of a false alarm, over all tests together, 0 to 1."""
    permutations: int = Field(1999, ge=19, le=100_000)
    """Permutations of each test."""
    min_items: int = Field(10, ge=2)
    """Number of files below which nothing is tested: with few items drift cannot be detected."""
    max_items: int = Field(1000, ge=10, le=5000)
    """Largest number of files that are read; of more files, this many are sampled."""
    retrain: bool = True
    """Whether drift may start a retrain."""
    retrain_on: tuple[Name, ...] = ("features", "labels", "confidence", "accuracy")
    """Tests that may start a retrain. The others, of the items' summary (a model may tolerate its
    change) and of rejected files (training cannot repair them), are only reported."""
    least_effect: float = Field(0.1, ge=0, le=1)
    """Effect size, 0 to 1, below which drift is reported but starts no retrain."""
    interval: float = Field(0.95, gt=0, lt=1)
    """Confidence level of the interval of an estimated accuracy, 0 to 1."""
    seed: int = Field(0, ge=0)
    """Random seed of samples and permutations."""

    @model_validator(mode="after")
    def _can_be_significant(self) -> Self:
        if (self.permutations + 1) * self.level < len(TESTS):
            raise ValueError(
                f"with {self.permutations} permutations no p-value can be as low as a level of "
                f"{self.level:g} over {len(TESTS)} tests requires; expected "
                f"{round(len(TESTS) / self.level)} or more"
            )
        return self


@dataclass(frozen=True)
class Result:
    """The result of one test."""

    p: float
    effect: float
    """0 no difference, 1 the largest there can be."""


class Test(Section):
    """One test of new items against the reference."""

    __test__ = False  # pytest must not collect it because of its name

    name: Name
    p: float | None
    """None if there were too few items to test."""
    adjusted: float
    """Holm's p-value over all tests."""
    effect: float | None
    """0 no difference, 1 the largest there can be."""
    drifted: bool


def features(reference: Numbers, new: Numbers, settings: MonitorSettings) -> Result:
    """Compare features (M, D) and (N, D) by the maximum mean discrepancy.

    `transfer.transferability.domain_distance.mmd_test` (Gretton et al. 2012) on features that have
    mean 0 and variance 1 over both samples together. The effect is the discrepancy over the largest
    that its kernels allow.
    """
    both = domain_distance.standardised(np.concatenate([reference, new]).astype(np.float64))
    old, young = both[: len(reference)], both[len(reference) :]
    if not both.shape[1]:
        return Result(1.0, 0.0)
    squared, p = domain_distance.mmd_test(old, young, settings.permutations, settings.seed)
    return Result(p, float(np.sqrt(np.clip(squared / domain_distance.LARGEST_MMD2, 0, 1))))


def labels(reference: Numbers, new: Numbers, settings: MonitorSettings) -> Result:
    """Compare how often each class is predicted, from probabilities (M, K) and (N, K).

    The least p-value of any class (Westfall and Young, 1993): of its exact test, at the smaller
    tail, for how often it is predicted. Its distribution by chance is found by permutation: the
    counts of a redrawn sample are multivariate hypergeometric. It detects a single missing class
    with fewer items than chi-squared does. The effect is the total variation distance.
    """
    classes = reference.shape[1]
    old, young = (np.bincount(p.argmax(1), minlength=classes) for p in (reference, new))
    rng = np.random.default_rng(settings.seed)
    redrawn = rng.multivariate_hypergeometric(old + young, len(new), settings.permutations)
    values = -_tails(np.vstack([young, redrawn]), old + young).min(1)
    return Result(_p(values), float(np.abs(old / len(reference) - young / len(new)).sum() / 2))


def _tails(counts: NDArray[np.int64], both: NDArray[np.int64]) -> Floats:
    """Logarithm (P, K) of the smaller tail of each hypergeometric count, of ``both`` (K,) items."""
    from scipy.stats import hypergeom

    pairs = np.column_stack([counts.ravel(), np.tile(both, len(counts))])
    distinct, place = np.unique(pairs, axis=0, return_inverse=True)
    count, items = distinct.T
    parameters = both.sum(), items, counts[0].sum()
    tails = np.minimum(
        hypergeom.logcdf(count, *parameters), hypergeom.logsf(count - 1, *parameters)
    )
    return np.minimum(tails[place].reshape(counts.shape), 0.0)


def confidence(reference: Numbers, new: Numbers, settings: MonitorSettings) -> Result:
    """Compare the model's confidence, from probabilities (M, K) and (N, K).

    The Kolmogorov-Smirnov distance of the probabilities of the predicted classes, by permutation,
    which is exact with ties. The distance is the effect, too.
    """
    both = np.concatenate([reference.max(1), new.max(1)])
    _, rank = np.unique(both, return_inverse=True)
    member = np.arange(len(both)) >= len(reference)
    rng = np.random.default_rng(settings.seed)
    rows = max(1, BLOCK // len(both))
    values = [_distances(member[None], rank)]
    for start in range(0, settings.permutations, rows):
        splits = np.repeat(member[None], min(rows, settings.permutations - start), 0)
        values.append(_distances(rng.permuted(splits, axis=1), rank))
    distances = np.concatenate(values)
    return Result(_p(distances), float(distances[0]))


def _distances(member: NDArray[np.bool_], rank: NDArray[np.intp]) -> Floats:
    """Kolmogorov-Smirnov distances (P,) of divisions (P, M + N) of items with these ranks."""
    order = np.argsort(rank, kind="stable")
    last = np.append(np.diff(rank[order]) > 0, True)  # of a group of ties
    young = np.cumsum(member[:, order], axis=1)[:, last]
    places = np.flatnonzero(last) + 1
    n = young[:, -1:]
    distances: Floats = np.abs(young / n - (places - young) / (len(rank) - n)).max(1)
    return distances


def _p(values: Floats) -> float:
    """Share of divisions, the true one first, whose statistic is at least that of the true one."""
    return float((values >= values[0] - EQUAL).mean())


def more_often(hits: int, items: int, reference_hits: int, reference_items: int) -> Result:
    """Fisher's exact test of whether something is more frequent now than in the reference.

    The effect is the difference of the shares, at least 0.
    """
    from scipy.stats import hypergeom

    both = hits + reference_hits
    p = hypergeom.sf(hits - 1, items + reference_items, both, items)
    return Result(
        float(min(p, 1.0)), float(max(hits / items - reference_hits / reference_items, 0))
    )


def run(
    reference: Reference,
    new: Outputs,
    settings: MonitorSettings,
    *,
    rejected: int,
    right: int = 0,
    labelled: int = 0,
) -> list[Test]:
    """Test new items for drift.

    Args:
        reference: the model's outputs for held-out items.
        new: its outputs for new ones.
        settings: level, permutations, least number of items.
        rejected: new files that could not be used.
        right: labelled new items that the model predicts correctly.
        labelled: number of labelled new items.
    """
    tests: dict[Name, Callable[[], Result]] = {}
    if len(new.features) >= settings.min_items:
        old = reference.outputs
        tests["features"] = lambda: features(old.features, new.features, settings)
        tests["summary"] = lambda: features(old.summary, new.summary, settings)
        tests["labels"] = lambda: labels(old.probabilities, new.probabilities, settings)
        tests["confidence"] = lambda: confidence(old.probabilities, new.probabilities, settings)
    if (files := len(new.features) + rejected) >= settings.min_items:
        counted = reference.rejected, reference.usable + reference.rejected
        tests["rejects"] = lambda: more_often(rejected, files, *counted)
    if labelled >= settings.min_items:
        wrong = reference.tested - reference.right
        tests["accuracy"] = lambda: more_often(labelled - right, labelled, wrong, reference.tested)
    results = {name: test() for name, test in tests.items()}
    adjusted = holm({name: result.p for name, result in results.items()})
    return [
        Test(
            name=name,
            p=results[name].p if name in results else None,
            adjusted=adjusted.get(name, 1.0),
            effect=results[name].effect if name in results else None,
            drifted=adjusted.get(name, 1.0) <= settings.level + EQUAL,
        )
        for name in TESTS
    ]


def holm(p: Mapping[Name, float]) -> dict[Name, float]:
    """Adjusted p-values over all of `TESTS`; a test that was not done counts as p = 1.

    Whether a test can be done depends on the data; the number of tests must not.
    """
    adjusted, highest = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        highest = max(highest, min(1.0, p[name] * (len(TESTS) - rank)))
        adjusted[name] = highest
    return adjusted


def wants_retrain(tests: list[Test], settings: MonitorSettings) -> bool:
    """Whether the rule in the settings asks for a retrain."""
    return settings.retrain and any(
        test.drifted and test.name in settings.retrain_on and test.effect >= settings.least_effect
        for test in tests
        if test.effect is not None
    )
