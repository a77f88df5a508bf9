"""Does new data come from where the model's own data came from?

Each test compares new items with the model's reference, items that it was not trained on. Under
the hypothesis that both come from one distribution, all ways to deal the pooled items to the two
samples are equally likely, so a permutation test is exact at any size, with ties, and whatever the
statistic (Phipson and Smyth, 2010). The p-values are adjusted by Holm (1979): the chance that any
of them is at most ``level`` where nothing has drifted is at most ``level``.

Shapes: M reference items, N new items, D features, K classes, P permutations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from transfer.core.config import Section
from transfer.deployment.monitoring.reference import Reference, Seen
from transfer.transferability import domain_distance

Floats = NDArray[np.float64]
Numbers = NDArray[np.floating]
Name = Literal["features", "summary", "labels", "confidence", "rejects", "accuracy"]
TESTS: tuple[Name, ...] = ("features", "summary", "labels", "confidence", "rejects", "accuracy")
EQUAL = 1e-12  # statistics as close as that are equal but for rounding
BLOCK = 2_000_000  # numbers permuted at once


class MonitorSettings(Section):
    """When new data counts as drifted, and whether drift starts a retrain."""

    level: float = Field(0.01, gt=0, lt=1)
    """Significance level: probability of a false alarm, over all tests together, 0 to 1."""
    permutations: int = Field(1999, ge=19, le=100_000)
    """Permutations of each test."""
    min_items: int = Field(10, ge=2)
    """Number of files below which nothing is tested: few items cannot show drift."""
    max_items: int = Field(1000, ge=10, le=5000)
    """Largest number of files that are read; of more, so many are sampled."""
    retrain: bool = True
    """Whether drift may start a retrain."""
    retrain_on: tuple[Name, ...] = ("features", "labels", "confidence", "accuracy")
    """Tests that may start a retrain. The others, of the items' summary (whose change a model may
    tolerate) and of rejected files (which training cannot mend), are only reported."""
    least_effect: float = Field(0.1, ge=0, le=1)
    """Effect size, 0 to 1, below which drift is reported but starts no retrain."""
    interval: float = Field(0.95, gt=0, lt=1)
    """Confidence level of the interval of an estimated accuracy, 0 to 1."""
    seed: int = Field(0, ge=0)
    """Random seed of samples and permutations."""

    @model_validator(mode="after")
    def _can_alarm(self) -> Self:
        if (self.permutations + 1) * self.level < len(TESTS):
            raise ValueError(
                f"with {self.permutations} permutations no p-value can be as low as a level of "
                f"{self.level:g} over {len(TESTS)} tests asks; expected "
                f"{round(len(TESTS) / self.level)} or more"
            )
        return self


@dataclass(frozen=True)
class Found:
    """What one test found."""

    p: float
    effect: float
    """0 no difference, 1 the largest there can be."""


class Test(Section):
    """One test of new items against the reference."""

    __test__ = False  # not a test case, whatever a test runner thinks of the name

    name: Name
    p: float | None
    """None where there was too little to test."""
    adjusted: float
    """Holm's p-value over all tests."""
    effect: float | None
    """0 no difference, 1 the largest there can be."""
    drifted: bool


def features(reference: Numbers, new: Numbers, settings: MonitorSettings) -> Found:
    """Compare features (M, D) and (N, D) by the maximum mean discrepancy.

    `transfer.transferability.domain_distance.mmd_test` (Gretton et al. 2012) on features that have
    mean 0 and variance 1 over both samples together. The effect is the discrepancy over the largest
    that its kernels allow.
    """
    both = domain_distance.standardised(np.concatenate([reference, new]).astype(np.float64))
    old, young = both[: len(reference)], both[len(reference) :]
    if not both.shape[1]:
        return Found(1.0, 0.0)
    squared, p = domain_distance.mmd_test(old, young, settings.permutations, settings.seed)
    return Found(p, float(np.sqrt(np.clip(squared / domain_distance.LARGEST_MMD2, 0, 1))))


def labels(reference: Numbers, new: Numbers, settings: MonitorSettings) -> Found:
    """Compare how often each class is predicted, from probabilities (M, K) and (N, K).

    The least p-value of any class (Westfall and Young, 1993): of its exact test, at the smaller
    tail, for how often it is predicted. How small that is by chance is found by permutation: the
    counts of a sample that is dealt anew are multivariate hypergeometric. It finds one class that
    is missing sooner than chi-squared does. The effect is the total variation distance.
    """
    classes = reference.shape[1]
    old, young = (np.bincount(p.argmax(1), minlength=classes) for p in (reference, new))
    rng = np.random.default_rng(settings.seed)
    dealt = rng.multivariate_hypergeometric(old + young, len(new), settings.permutations)
    values = -_tails(np.vstack([young, dealt]), old + young).min(1)
    return Found(_p(values), float(np.abs(old / len(reference) - young / len(new)).sum() / 2))


def _tails(counts: NDArray[np.int64], both: NDArray[np.int64]) -> Floats:
    """Logarithm (P, K) of the smaller tail of each hypergeometric count, of ``both`` (K,) items."""
    from scipy.stats import hypergeom

    pairs = np.column_stack([counts.ravel(), np.tile(both, len(counts))])
    distinct, place = np.unique(pairs, axis=0, return_inverse=True)
    count, items = distinct.T
    told = both.sum(), items, counts[0].sum()
    tails = np.minimum(hypergeom.logcdf(count, *told), hypergeom.logsf(count - 1, *told))
    return np.minimum(tails[place].reshape(counts.shape), 0.0)


def confidence(reference: Numbers, new: Numbers, settings: MonitorSettings) -> Found:
    """Compare how sure the model is, from probabilities (M, K) and (N, K).

    The Kolmogorov-Smirnov distance of the probabilities of the predicted classes, by permutation,
    which is exact with ties. It is the effect, too.
    """
    both = np.concatenate([reference.max(1), new.max(1)])
    _, rank = np.unique(both, return_inverse=True)
    member = np.arange(len(both)) >= len(reference)
    rng = np.random.default_rng(settings.seed)
    rows = max(1, BLOCK // len(both))
    values = [_distances(member[None], rank)]
    for start in range(0, settings.permutations, rows):
        deals = np.repeat(member[None], min(rows, settings.permutations - start), 0)
        values.append(_distances(rng.permuted(deals, axis=1), rank))
    found = np.concatenate(values)
    return Found(_p(found), float(found[0]))


def _distances(member: NDArray[np.bool_], rank: NDArray[np.intp]) -> Floats:
    """Kolmogorov-Smirnov distances (P,) of deals (P, M + N) of items with these ranks."""
    order = np.argsort(rank, kind="stable")
    last = np.append(np.diff(rank[order]) > 0, True)  # of a group of ties
    young = np.cumsum(member[:, order], axis=1)[:, last]
    places = np.flatnonzero(last) + 1
    n = young[:, -1:]
    found: Floats = np.abs(young / n - (places - young) / (len(rank) - n)).max(1)
    return found


def _p(values: Floats) -> float:
    """Share of deals, the true one first, whose statistic is as large as the true one's."""
    return float((values >= values[0] - EQUAL).mean())


def more_often(hits: int, items: int, reference_hits: int, reference_items: int) -> Found:
    """Fisher's exact test of whether something is more frequent now than in the reference.

    The effect is the difference of the shares, 0 where it is not.
    """
    from scipy.stats import hypergeom

    both = hits + reference_hits
    p = hypergeom.sf(hits - 1, items + reference_items, both, items)
    return Found(float(min(p, 1.0)), float(max(hits / items - reference_hits / reference_items, 0)))


def run(
    reference: Reference,
    new: Seen,
    settings: MonitorSettings,
    *,
    rejected: int,
    right: int = 0,
    labelled: int = 0,
) -> list[Test]:
    """Test new items for drift.

    Args:
        reference: what the model made of held-out items.
        new: what it makes of new ones.
        settings: level, permutations, least number of items.
        rejected: new files that could not be used.
        right: labelled new items that the model has right,
        labelled: of so many.
    """
    told = settings
    tests: dict[Name, Callable[[], Found]] = {}
    if len(new.features) >= settings.min_items:
        old = reference.seen
        tests["features"] = lambda: features(old.features, new.features, told)
        tests["summary"] = lambda: features(old.summary, new.summary, told)
        tests["labels"] = lambda: labels(old.probabilities, new.probabilities, told)
        tests["confidence"] = lambda: confidence(old.probabilities, new.probabilities, told)
    if (files := len(new.features) + rejected) >= settings.min_items:
        counted = reference.rejected, reference.usable + reference.rejected
        tests["rejects"] = lambda: more_often(rejected, files, *counted)
    if labelled >= settings.min_items:
        wrong = reference.tested - reference.right
        tests["accuracy"] = lambda: more_often(labelled - right, labelled, wrong, reference.tested)
    found = {name: test() for name, test in tests.items()}
    adjusted = holm({name: one.p for name, one in found.items()})
    return [
        Test(
            name=name,
            p=found[name].p if name in found else None,
            adjusted=adjusted.get(name, 1.0),
            effect=found[name].effect if name in found else None,
            drifted=adjusted.get(name, 1.0) <= settings.level + EQUAL,
        )
        for name in TESTS
    ]


def holm(p: Mapping[Name, float]) -> dict[Name, float]:
    """Adjusted p-values over all of `TESTS`; one that was not done counts, as one of p = 1.

    Whether a test can be done depends on the data, so the number of tests must not.
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
