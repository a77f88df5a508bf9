"""The seam of the label-free validators: a validator is one file in transfer/selection/validators/.

A module there sets ``VALIDATOR`` to a `Validator`: a score of one candidate model that reads no
label of the target, to choose among models where the target has none, or too few to hold any out.
No such score is safe alone: several of them are highest for a model that gives every item the same
class. `choose` therefore looks for that collapse first.

Shapes: A candidates, N unlabelled target items, M held-out source items, T source items trained
on, K classes of the target, D features.
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
"""A model has collapsed where its effective number of predicted classes, less 1, is below this
share of the number expected, less 1."""
FEWEST_ITEMS = 10
"""Fewer predictions than this can fall into one class by chance."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a validator may read of one candidate; nothing here is a target label.

    Where there is no source at hand, the four arrays of source items have no rows.

    Raises:
        CrosstrainError: the arrays do not fit together, there is no target item, some source
            arrays are empty and others are not, a number is not finite, a source label is
            outside 0..K-1, or peers are no probabilities.
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
    """T x D, of source items trained on, for density ratios."""
    peers: Reals
    """A x N x K probabilities of all candidates, this one among them."""

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_numbers(self)

    @property
    def has_source(self) -> bool:
        """Whether there are source items to read."""
        return len(self.source_labels) > 0

    @cached_property
    def log_probabilities(self) -> Floats:
        """Log-softmax of the target's logits, (N, K): finite however saturated they are."""
        return log_probabilities(self.logits)

    @cached_property
    def probabilities(self) -> Floats:
        """Softmax of the target's logits, (N, K)."""
        return np.exp(self.log_probabilities)


@dataclass(frozen=True)
class Validator:
    """A score of a candidate."""

    name: str
    """That of its file."""
    reads_source: bool
    """Whether it reads the arrays of source items."""
    score: Callable[[Seen], float]
    """Higher is better; always finite; in no common unit with other validators."""


@dataclass(frozen=True, eq=False)
class Choice:
    """Which candidate a validator chooses, and what it was not let choose."""

    validator: str
    index: int
    """Of the chosen candidate."""
    scores: Floats
    """(A,), higher is better."""
    collapsed: dict[int, str]
    """Why, in words, by index of the candidates that have collapsed. The chosen one is among them
    only where they all have."""

    @property
    def left_out(self) -> dict[int, str]:
        """The collapsed candidates that were not chosen, and why."""
        return {index: why for index, why in self.collapsed.items() if index != self.index}

    def __str__(self) -> str:
        told = f"{self.validator} chose candidate {self.index} of {len(self.scores)}"
        lines = [f"{told} (score {self.scores[self.index]:.4g})"]
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


def known() -> dict[str, Validator]:
    """Every validator in the folder, by name."""
    return {name: plugins.load(VALIDATORS, name).VALIDATOR for name in plugins.names(VALIDATORS)}


def collapsed(logits: Reals, expected: float | None = None) -> str | None:
    """Say in words that a model puts nearly all items in few classes; None where it does not.

    A model has collapsed where (e - 1) < 0.25 (E - 1): e is the effective number of classes that
    it predicts (`effective_classes` of its most probable ones) and E the number expected, at most
    N. Fewer than 10 items are never called collapsed. On fewer than about 30, a model that is
    right on a target of one very common class can be.

    Args:
        logits: (N, K).
        expected: effective number of classes to expect, 1 to K; K where not given.
    """
    items, classes = logits.shape
    counts = np.bincount(logits.argmax(1), minlength=classes)
    found, wanted = effective_classes(counts), min(expected or classes, items)
    if items < FEWEST_ITEMS or found - 1 >= LEAST_SPREAD * (wanted - 1):
        return None
    top = int(counts.argmax())
    return (
        f"collapsed: {counts[top] / items:.1%} of {items} items are predicted as class {top}; "
        f"found {found:.2f} effective classes of {classes}, expected about {wanted:.2f}"
    )


def find_collapsed(candidates: Sequence[Seen]) -> dict[int, str]:
    """Why, in words, by index of the candidates that have collapsed.

    The effective number of classes to expect is that of the source's labels (K without a source),
    or the median over candidates where that is larger.

    Raises:
        CrosstrainError: there is no candidate, or they are not of the same items and classes.
    """
    _check_pool(candidates)
    expected = _expected(candidates)
    told = {index: collapsed(seen.logits, expected) for index, seen in enumerate(candidates)}
    return {index: why for index, why in told.items() if why is not None}


def score_all(candidates: Sequence[Seen]) -> dict[str, Floats]:
    """Scores (A,) of every validator, by its name; without a source, of those that need none.

    Raises:
        CrosstrainError: there is no candidate, or they are not of the same items and classes.
    """
    _check_pool(candidates)
    has_source = all(seen.has_source for seen in candidates)
    return {
        name: _scores(validator, candidates)
        for name, validator in known().items()
        if has_source or not validator.reads_source
    }


def rank(candidates: Sequence[Seen], name: str) -> list[int]:
    """Indices of the candidates, the best first: collapsed ones come after all others.

    The first of equals comes first.

    Raises:
        SettingsError: there is no such validator.
        CrosstrainError: there is no candidate, they are not of the same items and classes, or the
            validator reads source items and there are none.
    """
    return _order(score(candidates, name), find_collapsed(candidates))


def choose(candidates: Sequence[Seen], name: str) -> Choice:
    """The candidate of the highest score among those that have not collapsed.

    The first of equals is chosen. A collapsed candidate is chosen only where all have collapsed,
    and then ``str`` of the choice says so. Raises what `rank` does.
    """
    scores, fallen = score(candidates, name), find_collapsed(candidates)
    return Choice(name, _order(scores, fallen)[0], scores, fallen)


def score(candidates: Sequence[Seen], name: str) -> Floats:
    """Scores (A,) of one validator. Raises what `rank` does."""
    validator: Validator = plugins.load(VALIDATORS, name).VALIDATOR
    _check_pool(candidates)
    if validator.reads_source and not all(seen.has_source for seen in candidates):
        free = [other.name for other in known().values() if not other.reads_source]
        raise CrosstrainError(
            f"{name} reads source items and found a candidate with none; give it held-out source "
            f"items, or choose by one of {', '.join(free)}"
        )
    return _scores(validator, candidates)


def _scores(validator: Validator, candidates: Sequence[Seen]) -> Floats:
    return np.array([validator.score(seen) + 0.0 for seen in candidates])  # no minus zero


def _order(scores: Floats, fallen: dict[int, str]) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: (index in fallen, -scores[index]))


def _expected(candidates: Sequence[Seen]) -> float:
    classes = candidates[0].logits.shape[1]
    labels = candidates[0].source_labels
    prior = effective_classes(np.bincount(labels)) if len(labels) else classes
    spreads = [effective_classes(np.bincount(seen.logits.argmax(1))) for seen in candidates]
    return max(prior, float(np.median(spreads)))


def _check_pool(candidates: Sequence[Seen]) -> None:
    shapes = sorted({seen.logits.shape for seen in candidates})
    if len(shapes) != 1:
        raise CrosstrainError(
            f"found {len(candidates)} candidates with logits of shapes {shapes}; expected one "
            "candidate or more, all of the same items and classes"
        )


def _check_shapes(seen: Seen) -> None:
    wanted: dict[str, tuple[int | None, ...]] = {"logits": (None, None), "features": (None, None)}
    _compare(seen, wanted)
    (n, k), d, m = seen.logits.shape, seen.features.shape[1], len(seen.source_labels)
    wanted = {
        "features": (n, d),
        "source_logits": (m, k),
        "source_labels": (m,),
        "source_features": (m, d),
        "train_features": (None, d),
        "peers": (None, n, k),
    }
    _compare(seen, wanted)


def _compare(seen: Seen, wanted: dict[str, tuple[int | None, ...]]) -> None:
    for name, shape in wanted.items():
        found = getattr(seen, name).shape
        if len(found) != len(shape) or any(
            b not in (None, a) for a, b in zip(found, shape, strict=True)
        ):
            raise CrosstrainError(
                f"found {name} of shape {found}; expected {shape}, where None is any number: "
                "arrays of the same items, classes and features"
            )


def _check_numbers(seen: Seen) -> None:
    if not (seen.logits.size and seen.features.size and len(seen.peers)):
        raise CrosstrainError(
            f"found logits of shape {seen.logits.shape}, features of shape {seen.features.shape} "
            f"and {len(seen.peers)} peers; expected a target item, a class, a feature and a peer "
            "or more"
        )
    if seen.has_source != (len(seen.train_features) > 0):
        raise CrosstrainError(
            f"found {len(seen.source_labels)} held-out source items and "
            f"{len(seen.train_features)} trained on; expected some of both, or none of either"
        )
    _check_labels(seen.source_labels, seen.logits.shape[1])
    for name in ("logits", "features", "source_logits", "source_features", "train_features"):
        _check_finite(name, getattr(seen, name))
    _check_peers(seen.peers)


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
