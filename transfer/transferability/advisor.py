"""Which source is worth transferring from: an opinion on cached features, before any training.

Shapes: N labelled target items, M source items, D features of one source's body, Ks its classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transfer.core.config import Section
from transfer.core.errors import CrosstrainError
from transfer.data.label_overlap import Relation, relate
from transfer.transferability import Floats, Labels
from transfer.transferability.domain_distance import mmd2, proxy_a_distance
from transfer.transferability.h_score import adjusted_h_score
from transfer.transferability.leep import leep
from transfer.transferability.logme import logme
from transfer.transferability.nce import nce

DIGITS = 9
"""Decimals to which scores are compared: what differs by rounding only shares a rank."""
ROWS = 1000


@dataclass(frozen=True)
class Candidate:
    """A source and what its body makes of the labelled target items, in one order for all."""

    name: str
    features: NDArray[np.floating]  # N x D
    source_features: NDArray[np.floating] | None  # M x D; a pretrained package has none
    probabilities: NDArray[np.floating] | None  # N x Ks, by the source's head
    source_classes: tuple[str, ...]


class Advice(Section):
    """What the measures say of one candidate. Higher is better but for the two distances."""

    name: str
    rank: int
    """1 is the candidate to try first."""
    a_distance: float | None
    """Proxy A-distance of the source from the target, 0 to 2; None without source features."""
    mmd: float | None
    """Unbiased squared MMD of the source and the target; None without source features."""
    logme: float
    """Log maximum evidence per item, nats."""
    h_score: float
    """Shrunk H-score corrected for chance: at most 1, 0 on average where features say nothing."""
    leep: float | None
    """Log expected empirical prediction, nats; None without a head."""
    nce: float | None
    """Negative conditional entropy, nats; None without a head."""
    knn: float
    """Share of items whose nearest neighbour has their class."""
    relation: Relation
    """What the source's classes are to the target's."""


class Agreement(Section):
    """Rank correlation of predictions and outcomes, -1 to 1; None where it is undefined."""

    spearman: float | None
    kendall: float | None
    """Tau-b, which allows for ties."""
    n: int
    """Pairs of which both numbers are finite."""


def advise(
    candidates: Sequence[Candidate],
    labels: Labels,
    class_names: Sequence[str],
    groups: Sequence[str] | None = None,
) -> list[Advice]:
    """Rank sources for a target by what their bodies make of its labelled items.

    A candidate's rank is that of the mean of its ranks by LogME, H-score, leave-one-out accuracy
    and, where every candidate has a head, LEEP; ties go by name. Several scores vote because none
    wins: over 715,000 experiments of Agostinelli et al., "How stable are transferability metrics
    evaluations?", ECCV 2022, small changes of the setup change which one is best. Ranks and not
    values, because the scores have different units. NCE does not vote: it is LEEP with less
    information. Distances do not vote: they see no label, and features that carry nothing are
    close in every domain.

    The scores compare between sources of different D. The H-score itself would not: on noise, with
    100 items of 5 classes, it is 0.5 of 4 for D = 16 and 3.8 for D = 1,280 even when shrunk, so it
    is corrected for chance. Distances of sources of different D do not compare strictly.

    Args:
        labels: (N,) of the target items, 0 to K - 1.
        class_names: the target's K.
        groups: (N,) key of each item; a neighbour of the same group does not count. Every item is
            its own group if None.

    Returns:
        Best first.

    Raises:
        CrosstrainError: no candidates, two of one name, arrays that do not belong together, or
            what the measures refuse.
    """
    _check(candidates, labels, class_names, groups)
    keys = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    found = [_named(candidate, labels, class_names, keys) for candidate in candidates]
    mean = _mean_rank(found)
    order = sorted(range(len(found)), key=lambda i: (mean[i], found[i].name))
    return [found[row].model_copy(update={"rank": at}) for at, row in enumerate(order, 1)]


def agreement(predicted: Sequence[float | None], outcome: Sequence[float | None]) -> Agreement:
    """Compare a score of candidates with what came of them, such as accuracy after training.

    Spearman's rho and Kendall's tau-b over the pairs of which both numbers are there and finite;
    None below 3 pairs or where one side is constant. Higher must mean better on both sides: give
    ranks and distances with a minus sign.

    Raises:
        CrosstrainError: one side is longer than the other.
    """
    from scipy.stats import kendalltau, spearmanr

    if len(predicted) != len(outcome):
        raise CrosstrainError(
            f"found {len(predicted)} predictions and {len(outcome)} outcomes; expected one of "
            "each for every candidate"
        )
    pairs = np.array([predicted, outcome], np.float64)  # None becomes NaN
    pairs = pairs[:, np.isfinite(pairs).all(0)]
    n = pairs.shape[1]
    if n < 3 or (pairs == pairs[:, :1]).all(1).any():
        return Agreement(spearman=None, kendall=None, n=n)
    rho, tau = spearmanr(*pairs).statistic, kendalltau(*pairs).statistic
    return Agreement(spearman=float(rho), kendall=float(tau), n=n)


def nearest_accuracy(
    features: NDArray[np.floating], labels: Labels, groups: NDArray[np.int64]
) -> float:
    """Leave-one-out accuracy of the nearest neighbour by cosine similarity of centred features.

    Neighbours that are equally near share the vote, so that the order of the items does not
    matter. An item without a neighbour outside of its group counts as wrong.

    Args:
        features: (N, D).
        labels: (N,).
        groups: (N,); only items of another group are neighbours.
    """
    units = _unit(features.astype(np.float64))
    right = 0.0
    for start in range(0, len(units), ROWS):
        rows = slice(start, start + ROWS)
        near = units[rows] @ units.T  # rows x N
        near[groups[rows, None] == groups] = -np.inf
        best = near.max(1, keepdims=True)
        nearest = (near >= best - 1e-9) & np.isfinite(near)
        hits = (nearest & (labels[rows, None] == labels)).sum(1)
        right += (hits / np.maximum(nearest.sum(1), 1)).sum()
    return float(right / len(units))


def _unit(features: Floats) -> Floats:
    """Centre the features and scale each item to length 1, or 0 where only rounding is left."""
    largest = np.abs(features).max()
    offsets = features - features.mean(0)
    lengths = np.linalg.norm(offsets, axis=1, keepdims=True)
    some = lengths > 1e-12 * largest * np.sqrt(features.shape[1])
    return np.divide(offsets, lengths, out=np.zeros_like(offsets), where=some)


def _named(
    candidate: Candidate, labels: Labels, class_names: Sequence[str], groups: NDArray[np.int64]
) -> Advice:
    """Measure a candidate; an error says which one it was."""
    try:
        return _measure(candidate, labels, class_names, groups)
    except CrosstrainError as error:
        raise CrosstrainError(f"candidate {candidate.name}: {error}") from error


def _measure(
    candidate: Candidate, labels: Labels, class_names: Sequence[str], groups: NDArray[np.int64]
) -> Advice:
    features, source, head = candidate.features, candidate.source_features, candidate.probabilities
    return Advice(
        name=candidate.name,
        rank=1,
        a_distance=None if source is None else proxy_a_distance(source, features),
        mmd=None if source is None else mmd2(source, features),
        logme=logme(features, labels),
        h_score=adjusted_h_score(features, labels),
        leep=None if head is None else leep(head, labels),
        nce=None if head is None else nce(head, labels),
        knn=nearest_accuracy(features, labels, groups),
        relation=relate(candidate.source_classes, class_names).relation,
    )


def _mean_rank(found: Sequence[Advice]) -> Floats:
    """Average over the scores of the rank of each candidate, 1 for the highest."""
    from scipy.stats import rankdata

    scores = [[advice.logme, advice.h_score, advice.knn] for advice in found]
    heads = [advice.leep for advice in found]
    table = np.array(scores, np.float64)
    if all(head is not None for head in heads):
        table = np.column_stack([table, np.array(heads, np.float64)])
    mean: Floats = rankdata(-table.round(DIGITS), axis=0).mean(1)
    return mean


def _check(
    candidates: Sequence[Candidate],
    labels: Labels,
    class_names: Sequence[str],
    groups: Sequence[str] | None,
) -> None:
    names = [candidate.name for candidate in candidates]
    if not names or len(set(names)) < len(names):
        raise CrosstrainError(f"found candidates {names}; expected one or more, of distinct names")
    if groups is not None and len(groups) != len(labels):
        raise CrosstrainError(
            f"found {len(groups)} groups for {len(labels)} items; expected one for each item"
        )
    if labels.size and (labels.min() < 0 or labels.max() >= len(class_names)):
        raise CrosstrainError(
            f"found labels from {labels.min()} to {labels.max()} and {len(class_names)} class "
            f"names; expected labels from 0 to {len(class_names) - 1}"
        )
    for candidate in candidates:
        heads, columns = candidate.probabilities, len(candidate.source_classes)
        if heads is not None and heads.shape[1:] != (columns,):
            raise CrosstrainError(
                f"candidate {candidate.name}: found probabilities of shape {heads.shape} and "
                f"{columns} source classes; expected a column for each class"
            )
