"""Interface of the label-free validators; each is one file in transfer/selection/validators/.

A module there sets ``VALIDATOR`` to a `Validator`: a score of one candidate model that reads no
label of the target. It chooses among models where the target has no labels, or too few to hold any
out. No such score is safe alone: several of them are highest for a model that predicts the same
class for every item. `choose` therefore looks for such collapsed models first.

Shapes: A candidates, N unlabelled target items, M held-out source items, T source items of the
training split, K classes of the target, D features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from transfer.core import plugins
from transfer.core.errors import CrosstrainError

Floats = NDArray[np.float64]
Reals = NDArray[np.floating]

VALIDATORS = plugins.Kind("transfer.selection.validators", "crosstrain.validators")
LEAST_SPREAD = 0.25
"""A model has collapsed where its effective number of predicted classes minus 1 is below this
share of the expected number minus 1."""
FEWEST_ITEMS = 10
"""With fewer items than this, all predictions can be of one class by chance."""


@dataclass(frozen=True, eq=False)
class CandidateOutputs:
    """The outputs of one candidate that a validator may read; none of them is a target label.

    Where no source is available, the four arrays of source items have no rows.

    Raises:
        CrosstrainError: the arrays do not fit together, there is no target item, some source
            arrays are empty and others are not, a number is not finite, a source label is
            outside 0..K-1, or peers are not probabilities.
    """

    logits: Reals
    """N x K, of unlabelled target items."""
    features: Reals
    """N x D, of the same items."""
    source_logits: Reals
    """M x K, of held-out source items, in the target's classes."""
    source_labels: NDArray[np.int64]
    """(M,), in the target's classes."""
    source_features: Reals
    """M x D, of the same source items."""
    train_features: Reals
    """T x D, of source items of the training split, for density ratios."""
    peers: Reals
    """A x N x K probabilities of all candidates, including this one."""

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_numbers(self)

    @property
    def has_source(self) -> bool:
        """Whether there are source items."""
        return len(self.source_labels) > 0

    @cached_property
    def log_probabilities(self) -> Floats:
        """Log-softmax of the target's logits, (N, K): finite for saturated logits too."""
        return log_probabilities(self.logits)

    @cached_property
    def probabilities(self) -> Floats:
        """Softmax of the target's logits, (N, K)."""
        return np.exp(self.log_probabilities)


@dataclass(frozen=True)
class Validator:
    """A label-free score of a candidate."""

    name: str
    """Name of its file."""
    reads_source: bool
    """Whether it reads the arrays of source items."""
    score: Callable[[CandidateOutputs], float]
    """Higher is better; always finite; units differ between validators."""


@dataclass(frozen=True, eq=False)
class ValidatorChoice:
    """The candidate that a validator chose, and the candidates that have collapsed."""

    validator: str
    index: int
    """Index of the chosen candidate."""
    scores: Floats
    """(A,), higher is better."""
    collapsed: dict[int, str]
    """Explanation by index of each candidate that has collapsed. The chosen candidate is among them
    only where all candidates have collapsed."""

    @property
    def left_out(self) -> dict[int, str]:
        """The collapsed candidates that were not chosen, with the explanation."""
        return {
            index: explanation
            for index, explanation in self.collapsed.items()
            if index != self.index
        }

    def __str__(self) -> str:
        chosen = f"{self.validator} chose candidate {self.index} of {len(self.scores)}"
        lines = [f"{chosen} (score {self.scores[self.index]:.4g})"]
        if self.index in self.collapsed:
            lines.append(
                "every candidate has collapsed, so do not use the chosen one either: "
                + self.collapsed[self.index]
            )
        for index, why in self.left_out.items():
            lines.append(f"left out candidate {index} (score {self.scores[index]:.4g}): {why}")
        return "; ".join(lines)


def log_probabilities(logits: Reals) -> Floats:
    """Log-softmax of class scores (..., K) along the last axis."""
    from scipy.special import log_softmax

    logs: Floats = log_softmax(np.asarray(logits, np.float64), axis=-1)
    return logs


def mean_entropy(log_probabilities: Floats) -> float:
    """Mean entropy of the rows of (N, K) log-probabilities, in nats: 0 to log K."""
    return float(-(np.exp(log_probabilities) * log_probabilities).sum(1).mean())


def effective_classes(counts: NDArray[np.integer]) -> float:
    """Effective number of classes of counts (K,): exp of the entropy of their shares, 1 to K."""
    from scipy.special import entr

    return float(np.exp(entr(counts / counts.sum()).sum()))


def all_validators() -> dict[str, Validator]:
    """Every validator, by name."""
    return {name: plugins.load(VALIDATORS, name).VALIDATOR for name in plugins.names(VALIDATORS)}


def explain_collapse(logits: Reals, expected: float | None = None) -> str | None:
    """Explain that a model predicts few classes for nearly all items; None where it does not.

    A model has collapsed where (e - 1) < 0.25 (E - 1): e is the effective number of classes that
    it predicts (`effective_classes` of its predicted classes) and E the expected number, at most
    N. With fewer than 10 items no model counts as collapsed. With fewer than about 30 items, a
    model that is right on a target with one very common class can count as collapsed.

    Args:
        logits: (N, K).
        expected: expected effective number of classes, 1 to K; None means K.
    """
    items, classes = logits.shape
    counts = np.bincount(logits.argmax(1), minlength=classes)
    effective, wanted = effective_classes(counts), min(expected or classes, items)
    if items < FEWEST_ITEMS or effective - 1 >= LEAST_SPREAD * (wanted - 1):
        return None
    top = int(counts.argmax())
    return (
        f"collapsed: {counts[top] / items:.1%} of {items} items are predicted as class {top}; "
        f"found {effective:.2f} effective classes of {classes}, expected about {wanted:.2f}"
    )


def find_collapsed(candidates: Sequence[CandidateOutputs]) -> dict[int, str]:
    """Explanation by index of each candidate that has collapsed.

    The expected effective number of classes is that of the source's labels (K without a source),
    or the median over the candidates where that is larger.

    Raises:
        CrosstrainError: there is no candidate, or they are not of the same items and classes.
    """
    _check_candidates(candidates)
    expected = _expected_classes(candidates)
    explanations = {
        index: explain_collapse(candidate.logits, expected)
        for index, candidate in enumerate(candidates)
    }
    return {
        index: explanation for index, explanation in explanations.items() if explanation is not None
    }


def score_all(candidates: Sequence[CandidateOutputs]) -> dict[str, Floats]:
    """Scores (A,) of every validator, by its name; without a source, of those that read none.

    Raises:
        CrosstrainError: there is no candidate, or they are not of the same items and classes.
    """
    _check_candidates(candidates)
    has_source = all(candidate.has_source for candidate in candidates)
    return {
        name: _scores(validator, candidates)
        for name, validator in all_validators().items()
        if has_source or not validator.reads_source
    }


def rank(candidates: Sequence[CandidateOutputs], name: str) -> list[int]:
    """Indices of the candidates, best first: collapsed candidates come after all others.

    Candidates of equal score keep their order.

    Raises:
        SettingsError: there is no such validator.
        CrosstrainError: there is no candidate, they are not of the same items and classes, or the
            validator reads source items and there are none.
    """
    return _best_first(score(candidates, name), find_collapsed(candidates))


def choose(candidates: Sequence[CandidateOutputs], name: str) -> ValidatorChoice:
    """Choose the candidate with the highest score among those that have not collapsed.

    Of equal scores, the first is chosen. A collapsed candidate is chosen only where all have
    collapsed; ``str`` of the choice then states this. Raises the same errors as `rank`.
    """
    scores, collapsed = score(candidates, name), find_collapsed(candidates)
    return ValidatorChoice(name, _best_first(scores, collapsed)[0], scores, collapsed)


def score(candidates: Sequence[CandidateOutputs], name: str) -> Floats:
    """Scores (A,) of one validator. Raises the same errors as `rank`."""
    validator: Validator = plugins.load(VALIDATORS, name).VALIDATOR
    _check_candidates(candidates)
    if validator.reads_source and not all(candidate.has_source for candidate in candidates):
        free = [other.name for other in all_validators().values() if not other.reads_source]
        raise CrosstrainError(
            f"{name} reads source items, but found a candidate without them; provide held-out "
            f"source items, or choose by one of {', '.join(free)}"
        )
    return _scores(validator, candidates)


def _scores(validator: Validator, candidates: Sequence[CandidateOutputs]) -> Floats:
    return np.array(
        [validator.score(candidate) + 0.0 for candidate in candidates]
    )  # turns -0.0 into 0.0


def _best_first(scores: Floats, collapsed: dict[int, str]) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: (index in collapsed, -scores[index]))


def _expected_classes(candidates: Sequence[CandidateOutputs]) -> float:
    classes = candidates[0].logits.shape[1]
    labels = candidates[0].source_labels
    prior = effective_classes(np.bincount(labels)) if len(labels) else classes
    spreads = [
        effective_classes(np.bincount(candidate.logits.argmax(1))) for candidate in candidates
    ]
    return max(prior, float(np.median(spreads)))


def _check_candidates(candidates: Sequence[CandidateOutputs]) -> None:
    shapes = sorted({candidate.logits.shape for candidate in candidates})
    if len(shapes) != 1:
        raise CrosstrainError(
            f"found {len(candidates)} candidates with logits of shapes {shapes}; expected at "
            "least one candidate, all of the same items and classes"
        )


def _check_shapes(candidate: CandidateOutputs) -> None:
    expected: dict[str, tuple[int | None, ...]] = {"logits": (None, None), "features": (None, None)}
    _check_array_shapes(candidate, expected)
    (n, k), d, m = candidate.logits.shape, candidate.features.shape[1], len(candidate.source_labels)
    expected = {
        "features": (n, d),
        "source_logits": (m, k),
        "source_labels": (m,),
        "source_features": (m, d),
        "train_features": (None, d),
        "peers": (None, n, k),
    }
    _check_array_shapes(candidate, expected)


def _check_array_shapes(
    candidate: CandidateOutputs, expected: dict[str, tuple[int | None, ...]]
) -> None:
    for name, shape in expected.items():
        actual = getattr(candidate, name).shape
        if len(actual) != len(shape) or any(
            expected_size not in (None, actual_size)
            for actual_size, expected_size in zip(actual, shape, strict=True)
        ):
            raise CrosstrainError(
                f"found {name} of shape {actual}; expected {shape}, where None is any number: "
                "arrays of the same items, classes and features"
            )


def _check_numbers(candidate: CandidateOutputs) -> None:
    if not (candidate.logits.size and candidate.features.size and len(candidate.peers)):
        raise CrosstrainError(
            f"found logits of shape {candidate.logits.shape}, features of shape "
            f"{candidate.features.shape} and {len(candidate.peers)} peers; expected at least one "
            "target item, class, feature and peer"
        )
    if candidate.has_source != (len(candidate.train_features) > 0):
        raise CrosstrainError(
            f"found {len(candidate.source_labels)} held-out source items and "
            f"{len(candidate.train_features)} trained on; expected some of both, or none of either"
        )
    _check_labels(candidate.source_labels, candidate.logits.shape[1])
    for name in ("logits", "features", "source_logits", "source_features", "train_features"):
        _check_finite(name, getattr(candidate, name))
    _check_peers(candidate.peers)


def _check_labels(labels: NDArray[np.int64], classes: int) -> None:
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise CrosstrainError(
            f"found source labels from {labels.min()} to {labels.max()}; expected them in the "
            f"target's classes, 0 to {classes - 1}: leave out source items of other classes"
        )


def _check_peers(peers: Reals) -> None:
    if not (np.abs(peers.sum(2, dtype=np.float64) - 1) < 0.01).all() or (peers < 0).any():
        raise CrosstrainError(
            "found peers that are not probabilities; expected the softmax of each candidate's "
            "logits, with rows that sum to 1"
        )


def _check_finite(name: str, numbers: Reals) -> None:
    if not np.isfinite(numbers).all():
        raise CrosstrainError(
            f"found {name} that are not finite; leave out a candidate whose training diverged"
        )
