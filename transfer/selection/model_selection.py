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
from transfer.selection.validator import Seen

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ArmFiles:
    """One arm as it is stored."""

    method: str
    seed: int
    folder: Path
    steps: int
    sources: tuple[str, ...] = ()
    """Names of the knowledge sources it takes anything from."""
    label: str = ""
    """What the arms that differ by their seed alone share; empty takes the method."""
    finalist: bool = True
    """False for an arm that was stopped early, and so cannot be chosen."""
    parts: tuple[str, ...] = ()
    """Names of the datasets within its sources, where a body was trained on several."""

    def uses(self, source: str) -> bool:
        """Whether anything in it was learned from a source, be it through a joint body."""
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
class Choice:
    """What validation says."""

    best: Mix
    """Among all arms."""
    baseline: Mix
    """What every gain is measured against: all arms from scratch, or where the target has no
    label all that use the source's network as it is."""
    scores: dict[str, float]
    """Cross-fitted mean log loss of each scheme, among all arms; or where the target has no label
    the validator's score of each method, higher is better."""
    source: Mix
    """Among the arms that use any source."""
    by_source: dict[str, Mix]
    """Among the arms that use this source alone, or with others where none uses it alone."""
    without: dict[str, Mix | None]
    """Among the arms that learned nothing from this source, be it through a joint body; None where
    there is none."""
    collapsed: dict[str, str] = field(default_factory=dict)
    """Why, by name of the arms that were barred for putting nearly all items in few classes."""


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
        probabilities.append(calibration.softmax(logits / temperature(arm.folder)))
    assert items is not None
    return np.stack(probabilities), items[1]


def temperature(folder: Path) -> float:
    """The calibration of a stored arm."""
    return checkpoint.load_card(folder, Card).members[0].temperature


def choose(arms: Sequence[ArmFiles], validator: str) -> Choice:
    """Choose the best model, and what stands for each source and for the lack of it.

    On validation or out-of-fold predictions; by a label-free validator where the arms had no
    label of the target.

    Raises:
        CrosstrainError: no arm uses a source, or none is a baseline.
    """
    judge = judge_of(arms, validator)
    names = list(dict.fromkeys(name for arm in arms for name in arm.sources))
    method = "source_only" if is_label_free(arms) else "scratch"
    baseline = np.array([arm.method == method for arm in arms], float)
    if not names or not baseline.any():
        raise CrosstrainError(f"expected arms that use a source, and {method} to compare them with")
    everything = [True] * len(arms)
    best, scores = judge(everything)
    return Choice(
        best,
        Mix("baseline", baseline / baseline.sum()),
        scores,
        judge([bool(arm.sources) for arm in arms])[0],
        {name: judge(_users(arms, name))[0] for name in names},
        {name: among([not arm.uses(name) for arm in arms], judge) for name in names},
        {arms[i].name: why for i, why in _collapsed(arms).items()},
    )


Judge = Callable[[Sequence[bool]], tuple[Mix, dict[str, float]]]
"""Chooses among the arms that are allowed, and gives the scores of what it chose from."""


def judge_of(arms: Sequence[ArmFiles], validator: str) -> Judge:
    """What chooses among these arms: predictions on labelled items, or a label-free validator."""
    if is_label_free(arms):
        candidates = label_free.load([arm.folder for arm in arms])
        return partial(_blind, arms, candidates, validator)
    return partial(_by_labels, arms, *validation_probabilities(arms))


def among(allowed: Sequence[bool], judge: Judge) -> Mix | None:
    """Choose among the arms that are allowed; None where there is none."""
    return judge(allowed)[0] if any(allowed) else None


def is_label_free(arms: Sequence[ArmFiles]) -> bool:
    """Whether the arms had no label of the target."""
    return (arms[0].folder / label_free.FILE).exists()


def _collapsed(arms: Sequence[ArmFiles]) -> dict[int, str]:
    if not is_label_free(arms):
        return {}
    return validators.find_collapsed(label_free.load([arm.folder for arm in arms]))


def _users(arms: Sequence[ArmFiles], name: str) -> list[bool]:
    alone = [arm.sources == (name,) for arm in arms]
    return alone if any(alone) else [name in arm.sources for arm in arms]


def _finalists(arms: Sequence[ArmFiles], allowed: Sequence[bool]) -> NDArray[np.int64]:
    """Numbers of the allowed arms that were not stopped early, or of all where all were."""
    rows = np.flatnonzero(allowed)
    kept = [i for i in rows.tolist() if arms[i].finalist]
    return np.array(kept or rows, np.int64)


def _by_labels(
    arms: Sequence[ArmFiles],
    probabilities: Floats,
    labels: NDArray[np.int64],
    allowed: Sequence[bool],
) -> tuple[Mix, dict[str, float]]:
    rows = _finalists(arms, allowed)
    found = ensemble.choose(probabilities[rows], labels, [arms[i].group for i in rows])
    return Mix(found.scheme, _spread(found.weights, rows, len(arms))), found.scores


def _blind(
    arms: Sequence[ArmFiles],
    candidates: Sequence[Seen],
    validator: str,
    allowed: Sequence[bool],
) -> tuple[Mix, dict[str, float]]:
    rows = _finalists(arms, allowed)
    found = label_free.rank([candidates[i] for i in rows], [arms[i].group for i in rows], validator)
    return Mix(validator, _spread(found.weights, rows, len(arms))), found.scores


def _spread(weights: Floats, rows: NDArray[np.int64], count: int) -> Floats:
    """Weights of some rows among ``count``."""
    spread = np.zeros(count)
    spread[rows] = weights
    return spread


def validation_losses(arms: Sequence[ArmFiles]) -> Floats:
    """Log loss (A, N) of each arm on each validation item, calibrated, in nats."""
    probabilities, labels = validation_probabilities(arms)
    true = probabilities[:, np.arange(len(labels)), labels]
    losses: Floats = -np.log(true.clip(classification.SMALLEST))
    return losses
