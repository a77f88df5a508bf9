"""The result of monitoring: the schema of ``reports/monitor.json``, and its computation.

Shares are fractions in 0..1. Shapes: M reference items, N new items, D features, K classes.
"""

from collections import Counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transfer.core.config import Section
from transfer.core.errors import NothingToDoError
from transfer.deployment.monitoring import accuracy_estimation as accuracy
from transfer.deployment.monitoring import drift
from transfer.deployment.monitoring.accuracy_estimation import Estimate
from transfer.deployment.monitoring.drift import MonitorSettings, Test
from transfer.deployment.monitoring.new_data import Observed
from transfer.deployment.monitoring.reference import Reference, broken
from transfer.evaluation.comparison import proportion_interval
from transfer.transferability import domain_distance

NEIGHBOURS = 5
UNUSUAL = 12  # items that are named
EXAMPLES = 20  # rejects that are named

Numbers = NDArray[np.floating]
Floats = NDArray[np.float64]


class ClassShare(Section):
    """How often a class is predicted."""

    name: str
    reference: float
    new: float


class Unusual(Section):
    """A new item far from all reference items."""

    id: str
    predicted: str
    confidence: float
    rarity: float
    """Share of the reference items that are at least as far from their neighbours."""


class Broken(Section):
    """A new file that could not be used."""

    path: str
    reason: str
    detail: str


class Expected(Section):
    """The model's accuracy on the test split, with its interval."""

    accuracy: float
    low: float
    high: float
    items: int


class Monitored(Section):
    """The result of monitoring new data."""

    schema_version: Literal[1] = 1
    target: str
    model: str
    version: int
    folder: str
    sentence: str
    """The outcome in one sentence."""
    drift: bool
    """Whether any test found drift at ``level``."""
    retrain: bool
    """Whether the rule in the settings asks for a retrain."""
    level: float
    found: int
    """Number of files."""
    items: int
    """Files that were read and could be used."""
    rejected: int
    """Files that were read and could not."""
    reference_items: int
    tests: list[Test]
    accuracy: Estimate | None
    expected: Expected
    strange: dict[str, int]
    """Items of each label that the model has no class for."""
    classes: list[ClassShare]
    confidence: float | None
    """Mean confidence, new and in the reference."""
    reference_confidence: float
    rejects: dict[str, int]
    """How many files were rejected for each reason."""
    broken: list[Broken]
    """The first rejected files."""
    unusual: list[Unusual]
    """The items farthest from the reference, the farthest first."""

    @property
    def drifted(self) -> list[Test]:
        """The tests that found drift."""
        return [test for test in self.tests if test.drifted]


def judge(
    reference: Reference,
    observed: Observed,
    class_names: tuple[str, ...],
    settings: MonitorSettings,
    *,
    target: str,
    model: str,
    version: int,
    folder: str,
) -> Monitored:
    """Test new items for drift, estimate the accuracy on them and find the unusual ones.

    Raises:
        NothingToDoError: there are too few files to test anything.
    """
    rejected = broken(reject.reason for reject in observed.rejects)
    items, files = len(observed.ids), len(observed.ids) + rejected
    if files < settings.min_items:
        raise NothingToDoError(
            f"{folder} holds {files} files to test; expected {settings.min_items} or more "
            "(monitor.min_items): with few items drift cannot be detected"
        )
    confidence, predicted = (
        observed.outputs.probabilities.max(1),
        observed.outputs.probabilities.argmax(1),
    )
    labelled = observed.labels >= 0
    right = (predicted == observed.labels)[labelled]
    tests = drift.run(
        reference,
        observed.outputs,
        settings,
        rejected=rejected,
        right=int(right.sum()),
        labelled=len(right),
    )
    without_label = observed.unlabelled if labelled.any() else np.ones(items, bool)
    old = reference.outputs.probabilities
    return Monitored(
        target=target,
        model=model,
        version=version,
        folder=folder,
        sentence=sentence(tests, items, rejected, settings),
        drift=any(test.drifted for test in tests),
        retrain=drift.wants_retrain(tests, settings),
        level=settings.level,
        found=observed.found,
        items=items,
        rejected=rejected,
        reference_items=len(old),
        tests=tests,
        accuracy=accuracy.estimate(
            right, confidence[labelled], confidence[without_label], level=settings.interval
        ),
        expected=_expected(reference, settings.interval),
        strange=observed.strange,
        classes=_classes(class_names, old, observed.outputs.probabilities),
        confidence=float(confidence.mean()) if items else None,
        reference_confidence=float(old.max(1).mean()),
        rejects=dict(Counter(reject.reason for reject in observed.rejects)),
        broken=[Broken(**vars(reject)) for reject in observed.rejects[:EXAMPLES]],
        unusual=_unusual(reference, observed, class_names),
    )


def sentence(tests: list[Test], items: int, rejected: int, settings: MonitorSettings) -> str:
    """The outcome in one sentence."""
    what = f"{items} new items" + (f" and {rejected} broken files" if rejected else "")
    level = f"{100 * settings.level:g} %"
    if drifted := [test.name for test in tests if test.drifted]:
        *others, last = drifted
        names = f"{', '.join(others)} and {last}" if others else last
        return (
            f"Drift in {names}: {what} are unlike the data the model was made for (chance of a "
            f"false alarm {level})."
        )
    if items < settings.min_items:
        return f"Too few of {what} can be read to test more than the share of broken files."
    return f"No drift found in {what} (chance of a false alarm {level})."


def _expected(reference: Reference, level: float) -> Expected:
    low, high = proportion_interval(reference.right, reference.tested, level=level)
    share = reference.right / reference.tested
    return Expected(accuracy=share, low=low, high=high, items=reference.tested)


def _classes(names: tuple[str, ...], old: Numbers, new: Numbers) -> list[ClassShare]:
    shares = [np.bincount(p.argmax(1), minlength=len(names)) / max(len(p), 1) for p in (old, new)]
    return [
        ClassShare(name=name, reference=float(was), new=float(now))
        for name, was, now in zip(names, *shares, strict=True)
    ]


def distances(reference: Numbers, new: Numbers) -> tuple[Floats, Floats]:
    """Mean distance of reference items (M, D), and of new ones (N, D), to their five nearest
    neighbours among the (other) reference items, in features standardised together.

    Sun et al., "Out-of-distribution detection with deep nearest neighbors" (2022).
    """
    from scipy.spatial.distance import cdist

    both = domain_distance.standardised(np.concatenate([reference, new]).astype(np.float64))
    old = both[: len(reference)]
    sorted_distances = np.sort(cdist(both, old), axis=1)
    k = min(NEIGHBOURS, len(reference) - 1)
    own, others = sorted_distances[: len(old), 1 : k + 1], sorted_distances[len(old) :, :k]
    return own.mean(1), others.mean(1)


def _unusual(reference: Reference, observed: Observed, names: tuple[str, ...]) -> list[Unusual]:
    if not observed.ids or len(reference.outputs.features) < 2:
        return []
    own, distance = distances(reference.outputs.features, observed.outputs.features)
    probabilities = observed.outputs.probabilities
    return [
        Unusual(
            id=observed.ids[i],
            predicted=names[int(probabilities[i].argmax())],
            confidence=float(probabilities[i].max()),
            rarity=float((own >= distance[i]).mean()),
        )
        for i in np.argsort(-distance, kind="stable")[:UNUSUAL]
    ]
