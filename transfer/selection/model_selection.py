"""Choose the model on validation, before anything reads the test split.

Shapes: A arms, N items, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transfer.core.errors import CrosstrainError
from transfer.metrics import calibration, classification
from transfer.models import checkpoint
from transfer.models.predictor import Card
from transfer.selection import ensemble, label_free
from transfer.selection import validator as validators
from transfer.selection.validator import CandidateOutputs

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ArmFiles:
    """The stored files and properties of an arm."""

    method: str
    seed: int
    folder: Path
    steps: int
    sources: tuple[str, ...] = ()
    """Names of the knowledge sources that it uses."""
    label: str = ""
    """Name shared by the arms that differ only in their seed; empty means the method's name."""
    finalist: bool = True
    """False for an arm that was stopped early, and so cannot be chosen."""
    parts: tuple[str, ...] = ()
    """Names of the datasets in its sources, where a backbone was trained on several."""

    def uses(self, source: str) -> bool:
        """Whether the arm learned from a source, directly or through a joint backbone."""
        return source in self.sources or source in self.parts

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
class ModelChoice:
    """The mixes of arms that validation chose."""

    best: Mix
    """The best among all arms."""
    baseline: Mix
    """The mix against which every gain is measured: all arms from scratch, or where the target has
    no label all that use the source's network unchanged."""
    scores: dict[str, float]
    """Cross-fitted mean log loss of each scheme, among all arms; or where the target has no label
    the validator's score of each method, higher is better."""
    source: Mix
    """The best among the arms that use any source."""
    by_source: dict[str, Mix]
    """The best among the arms that use only this source, or this and others where no arm uses only
    this source."""
    without: dict[str, Mix | None]
    """The best among the arms that learned nothing from this source, neither directly nor through a
    joint backbone; None where there is no such arm."""
    collapsed: dict[str, str] = field(default_factory=dict)
    """Explanation by name of each arm that was excluded because it has collapsed: it predicts few
    classes for nearly all items."""


def validation_probabilities(arms: Sequence[ArmFiles]) -> tuple[Floats, NDArray[np.int64]]:
    """Calibrated validation probabilities (A, N, K) of arms, and the labels (N,).

    Raises:
        CrosstrainError: the arms were not validated on the same items.
    """
    probabilities, items = [], None
    for arm in arms:
        with np.load(arm.folder / "oof.npz", allow_pickle=False) as stored:
            logits, labels, ids = stored["logits"], stored["labels"], stored["ids"]
        if items is not None and not np.array_equal(ids, items[0]):
            raise CrosstrainError(f"arm {arm.name} was validated on other items than the first arm")
        items = (ids, labels)
        probabilities.append(calibration.softmax(logits / temperature(arm.folder)))
    assert items is not None
    return np.stack(probabilities), items[1]


def temperature(folder: Path) -> float:
    """The calibration temperature of a stored arm."""
    return checkpoint.load_card(folder, Card).members[0].temperature


def choose(arms: Sequence[ArmFiles], validator: str) -> ModelChoice:
    """Choose the best model overall, the best model of each source, and the best without it.

    The choice uses validation or out-of-fold predictions, or a label-free validator where the arms
    had no label of the target.

    Raises:
        CrosstrainError: no arm uses a source, or no arm is a baseline.
    """
    chooser = chooser_for(arms, validator)
    names = list(dict.fromkeys(name for arm in arms for name in arm.sources))
    method = "source_only" if is_label_free(arms) else "scratch"
    baseline = np.array([arm.method == method for arm in arms], float)
    if not names or not baseline.any():
        raise CrosstrainError(
            f"found arms of the sources {names} and {int(baseline.sum())} of {method}; expected "
            f"arms that use a source, and {method} to compare them with"
        )
    all_arms = [True] * len(arms)
    best, scores = chooser(all_arms)
    return ModelChoice(
        best,
        Mix("baseline", baseline / baseline.sum()),
        scores,
        chooser([bool(arm.sources) for arm in arms])[0],
        {name: chooser(_arms_using(arms, name))[0] for name in names},
        {name: choose_among([not arm.uses(name) for arm in arms], chooser) for name in names},
        {arms[i].name: explanation for i, explanation in _collapsed(arms).items()},
    )


Chooser = Callable[[Sequence[bool]], tuple[Mix, dict[str, float]]]
"""Chooses among the allowed arms; also returns the scores of the schemes or groups it compared."""


def chooser_for(arms: Sequence[ArmFiles], validator: str) -> Chooser:
    """Function that chooses among these arms, by labelled items or a label-free validator."""
    if is_label_free(arms):
        candidates = label_free.load([arm.folder for arm in arms])
        return partial(_choose_label_free, arms, candidates, validator)
    return partial(_choose_by_labels, arms, *validation_probabilities(arms))


def choose_among(allowed: Sequence[bool], chooser: Chooser) -> Mix | None:
    """Choose among the allowed arms; None where no arm is allowed."""
    return chooser(allowed)[0] if any(allowed) else None


def is_label_free(arms: Sequence[ArmFiles]) -> bool:
    """Whether the arms had no label of the target."""
    return (arms[0].folder / label_free.FILE).exists()


def _collapsed(arms: Sequence[ArmFiles]) -> dict[int, str]:
    if not is_label_free(arms):
        return {}
    return validators.find_collapsed(label_free.load([arm.folder for arm in arms]))


def _arms_using(arms: Sequence[ArmFiles], name: str) -> list[bool]:
    alone = [arm.sources == (name,) for arm in arms]
    return alone if any(alone) else [name in arm.sources for arm in arms]


def _finalists(arms: Sequence[ArmFiles], allowed: Sequence[bool]) -> NDArray[np.int64]:
    """Indices of the allowed arms that were not stopped early, or of all where all were stopped."""
    rows = np.flatnonzero(allowed)
    kept = [i for i in rows.tolist() if arms[i].finalist]
    return np.array(kept or rows, np.int64)


def _choose_by_labels(
    arms: Sequence[ArmFiles],
    probabilities: Floats,
    labels: NDArray[np.int64],
    allowed: Sequence[bool],
) -> tuple[Mix, dict[str, float]]:
    rows = _finalists(arms, allowed)
    ensemble_choice = ensemble.choose(probabilities[rows], labels, [arms[i].group for i in rows])
    return Mix(
        ensemble_choice.scheme, _place_weights(ensemble_choice.weights, rows, len(arms))
    ), ensemble_choice.scores


def _choose_label_free(
    arms: Sequence[ArmFiles],
    candidates: Sequence[CandidateOutputs],
    validator: str,
    allowed: Sequence[bool],
) -> tuple[Mix, dict[str, float]]:
    rows = _finalists(arms, allowed)
    ranking = label_free.rank(
        [candidates[i] for i in rows], [arms[i].group for i in rows], validator
    )
    return Mix(validator, _place_weights(ranking.weights, rows, len(arms))), ranking.scores


def _place_weights(weights: Floats, rows: NDArray[np.int64], count: int) -> Floats:
    """Weights (``count``,) that are 0 except in the given rows."""
    placed = np.zeros(count)
    placed[rows] = weights
    return placed


def validation_losses(arms: Sequence[ArmFiles]) -> Floats:
    """Log loss (A, N) of each arm on each validation item, calibrated, in nats."""
    probabilities, labels = validation_probabilities(arms)
    true = probabilities[:, np.arange(len(labels)), labels]
    losses: Floats = -np.log(true.clip(classification.SMALLEST))
    return losses
