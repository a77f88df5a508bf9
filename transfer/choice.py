"""Choose the model on validation, before anything reads the test split.

Shapes: A arms, N items, K classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transfer import calibrate, checkpoint, ensemble, metrics
from transfer.errors import CrosstrainError
from transfer.predict import Card

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ArmFiles:
    """One arm as it is stored."""

    method: str
    seed: int
    folder: Path
    steps: int
    seconds: float
    sources: tuple[str, ...] = ()
    """Names of the knowledge sources it takes anything from."""
    label: str = ""
    """What the arms that differ by their seed alone share; empty takes the method."""
    finalist: bool = True
    """False for an arm that was stopped early, and so cannot be chosen."""

    @property
    def group(self) -> str:
        """The label, or the method where there is none."""
        return self.label or self.method

    @property
    def name(self) -> str:
        """The group and the seed."""
        return f"{self.group}/{self.seed}"


@dataclass(frozen=True)
class Mix:
    """A weighted sum of arms: the scheme that made it and its weights (A,)."""

    scheme: str
    weights: Floats


@dataclass(frozen=True)
class Choice:
    """What validation says."""

    best: Mix
    """Among all arms."""
    scores: dict[str, float]
    """Cross-fitted mean log loss of each scheme, among all arms."""
    source: Mix
    """Among the arms that use any source."""
    by_source: dict[str, Mix]
    """Among the arms that use this source alone, or with others where none uses it alone."""
    without: dict[str, Mix]
    """Among the arms that do without this source."""


def validation_probabilities(arms: Sequence[ArmFiles]) -> tuple[Floats, NDArray[np.int64]]:
    """Calibrated validation probabilities (A, N, K) of arms, and the labels (N,).

    Raises:
        CrosstrainError: the arms were not judged on the same items.
    """
    probabilities, items = [], None
    for arm in arms:
        with np.load(arm.folder / "oof.npz", allow_pickle=False) as stored:
            logits, labels, ids = stored["logits"], stored["labels"], stored["ids"]
        if items is not None and not np.array_equal(ids, items[0]):
            raise CrosstrainError(f"arm {arm.name} was judged on other items than the first arm")
        items = (ids, labels)
        probabilities.append(calibrate.softmax(logits / temperature(arm.folder)))
    assert items is not None
    return np.stack(probabilities), items[1]


def temperature(folder: Path) -> float:
    """The calibration of a stored arm."""
    return checkpoint.load_card(folder, Card).members[0].temperature


def choose(arms: Sequence[ArmFiles]) -> Choice:
    """Choose the best model, and what stands for each source and for the lack of it.

    Raises:
        CrosstrainError: no arm uses a source, or every arm does.
    """
    probabilities, labels = validation_probabilities(arms)
    names = list(dict.fromkeys(name for arm in arms for name in arm.sources))
    if not names or all(arm.sources for arm in arms):
        raise CrosstrainError("expected arms that use a source, and arms that use none")
    best, scores = _among(arms, arms, probabilities, labels)
    return Choice(
        best,
        scores,
        _among(arms, [a for a in arms if a.sources], probabilities, labels)[0],
        {name: _among(arms, _users(arms, name), probabilities, labels)[0] for name in names},
        {name: without(arms, [name], probabilities, labels) for name in names},
    )


def without(
    arms: Sequence[ArmFiles],
    sources: Iterable[str],
    probabilities: Floats,
    labels: NDArray[np.int64],
) -> Mix:
    """Choose among the arms that use none of these sources, on validation (A, N, K) and (N,)."""
    barred = set(sources)
    allowed = [arm for arm in arms if not barred.intersection(arm.sources)]
    return _among(arms, allowed, probabilities, labels)[0]


def _users(arms: Sequence[ArmFiles], name: str) -> list[ArmFiles]:
    alone = [arm for arm in arms if arm.sources == (name,) and arm.finalist]
    return alone or [arm for arm in arms if name in arm.sources]


def _among(
    arms: Sequence[ArmFiles],
    allowed: Sequence[ArmFiles],
    probabilities: Floats,
    labels: NDArray[np.int64],
) -> tuple[Mix, dict[str, float]]:
    """Choose among some of the arms: those that were not stopped early, where there are any."""
    finalists = [arm for arm in allowed if arm.finalist] or list(allowed)
    names = {arm.name for arm in finalists}
    rows = np.array([arm.name in names for arm in arms])
    found = ensemble.choose(probabilities[rows], labels, [arm.group for arm in finalists])
    weights = np.zeros(len(arms))
    weights[rows] = found.weights
    return Mix(found.scheme, weights), found.scores


def validation_losses(arms: Sequence[ArmFiles]) -> Floats:
    """Log loss (A, N) of each arm on each validation item, calibrated, in nats."""
    probabilities, labels = validation_probabilities(arms)
    true = probabilities[:, np.arange(len(labels)), labels]
    losses: Floats = -np.log(true.clip(metrics.SMALLEST))
    return losses
