"""Ranks the sources for a target by measures of their features, before any training.

Shapes: N labelled target items, M source items, D features of a source's backbone, Ks its classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transfer.core.config import Section
from transfer.core.errors import CrosstrainError
from transfer.data.label_overlap import Relation, relate
from transfer.transferability.domain_distance import mmd2, proxy_a_distance
from transfer.transferability.feature_matrix import Floats, Labels
from transfer.transferability.h_score import adjusted_h_score
from transfer.transferability.leep import leep
from transfer.transferability.logme import logme
from transfer.transferability.nce import nce

DIGITS = 9
"""Scores are compared to this many decimals: scores that differ by rounding only share a rank."""
ROWS = 1000
"""Items whose similarities to all N are in memory at a time."""


@dataclass(frozen=True)
class Candidate:
    """A source and its outputs for the labelled target items; all candidates share their order."""

    name: str
    features: NDArray[np.floating]  # N x D
    source_features: NDArray[np.floating] | None  # M x D; None for pretrained weights without data
    probabilities: NDArray[np.floating] | None  # N x Ks, by the source's head
    source_classes: tuple[str, ...]


class Advice(Section):
    """The measures of one candidate. Higher is better, except for the two distances."""

    name: str
    rank: int
    """1 for the candidate to try first."""
    a_distance: float | None
    """Proxy A-distance of the source from the target, 0 to 2; None without source features."""
    mmd: float | None
    """Unbiased squared MMD of the source and the target; None without source features."""
    logme: float
    """Log maximum evidence per item, nats."""
    h_score: float
    """Shrunk H-score corrected for chance: at most 1; 0 on average for uninformative features."""
    leep: float | None
    """Log expected empirical prediction, nats; None without a head."""
    nce: float | None
    """Negative conditional entropy, nats; None without a head."""
    knn: float
    """Leave-one-out accuracy of the nearest neighbour, 0 to 1."""
    relation: Relation
    """Relation of the source's classes to the target's."""


class RankCorrelation(Section):
    """Rank correlation of predictions and outcomes, -1 to 1; None where it is undefined."""

    spearman: float | None
    kendall: float | None
    """Tau-b, which allows ties."""
    n: int
    """Number of pairs in which both numbers are finite."""


def advise(
    candidates: Sequence[Candidate],
    labels: Labels,
    class_names: Sequence[str],
    groups: Sequence[str] | None = None,
) -> list[Advice]:
    """Rank sources for a target by their backbones' features of its labelled items.

    Candidates are ordered by the mean of their ranks by LogME, H-score, leave-one-out accuracy
    and, where every candidate has a head, LEEP; ties are broken by name. Several scores are used
    because none is always best: in the 715,000 experiments of Agostinelli et al., "How stable are
    transferability metrics evaluations?", ECCV 2022, small changes of the setup change which
    score is best. Ranks are averaged instead of values because the scores have different units.
    NCE is not used: it is LEEP with less information. Distances are not used: they read no label,
    and uninformative features are close in every domain.

    The scores can be compared between sources of different D. The plain H-score cannot: on noise,
    with 100 items of 5 classes, it is 0.5 of 4 for D = 16 and 3.8 for D = 1,280 even when shrunk,
    so it is corrected for chance. Distances of sources of different D are only roughly
    comparable.

    Args:
        labels: (N,) of the target items, 0 to K - 1.
        class_names: the target's K.
        groups: (N,) key of each item; a neighbour of the same group is ignored. None: every item
            is a group of its own.

    Returns:
        Best first.

    Raises:
        CrosstrainError: there is no candidate, two have the same name, arrays do not fit
            together, or a measure refuses its input.
    """
    _check(candidates, labels, class_names, groups)
    group_numbers = (
        np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    )
    advice = [
        _measure_named(candidate, labels, class_names, group_numbers) for candidate in candidates
    ]
    mean_ranks = _mean_rank(advice)
    order = sorted(range(len(advice)), key=lambda i: (mean_ranks[i], advice[i].name))
    return [advice[index].model_copy(update={"rank": rank}) for rank, index in enumerate(order, 1)]


def rank_correlation(
    predicted: Sequence[float | None], outcome: Sequence[float | None]
) -> RankCorrelation:
    """Compare a score of candidates with their outcomes, such as accuracy after training.

    Spearman's rho and Kendall's tau-b over the pairs in which both numbers exist and are finite;
    None for fewer than 3 pairs or where one side is constant. Higher must mean better on both
    sides: pass ranks and distances with a minus sign.

    Raises:
        CrosstrainError: the two sides differ in length.
    """
    from scipy.stats import kendalltau, spearmanr

    if len(predicted) != len(outcome):
        raise CrosstrainError(
            f"found {len(predicted)} predictions and {len(outcome)} outcomes; expected one of "
            "each for every candidate"
        )
    pairs = np.array([predicted, outcome], np.float64)  # None becomes NaN
    pairs = pairs[:, np.isfinite(pairs).all(0)]
    count = pairs.shape[1]
    if count < 3 or (pairs == pairs[:, :1]).all(1).any():
        return RankCorrelation(spearman=None, kendall=None, n=count)
    rho, tau = spearmanr(*pairs).statistic, kendalltau(*pairs).statistic
    return RankCorrelation(spearman=float(rho), kendall=float(tau), n=count)


def nearest_neighbour_accuracy(
    features: NDArray[np.floating], labels: Labels, groups: NDArray[np.int64]
) -> float:
    """Leave-one-out accuracy of the nearest neighbour by cosine similarity of centred features.

    Equally near neighbours share the vote, so that the order of the items does not matter. An item
    without a neighbour outside its group counts as wrong.

    Args:
        features: (N, D).
        labels: (N,).
        groups: (N,) group of each item; only items of another group are neighbours.
    """
    units = _unit(features.astype(np.float64))
    right = 0.0
    for start in range(0, len(units), ROWS):
        rows = slice(start, start + ROWS)
        similarity = units[rows] @ units.T  # rows x N
        similarity[groups[rows, None] == groups] = -np.inf
        best = similarity.max(1, keepdims=True)
        nearest = (similarity >= best - 1e-9) & np.isfinite(similarity)
        hits = (nearest & (labels[rows, None] == labels)).sum(1)
        right += (hits / np.maximum(nearest.sum(1), 1)).sum()
    return float(right / len(units))


def _unit(features: Floats) -> Floats:
    """Centre the features and scale each item to length 1, or to 0 where only rounding remains."""
    largest = np.abs(features).max()
    offsets = features - features.mean(0)
    lengths = np.linalg.norm(offsets, axis=1, keepdims=True)
    nonzero = lengths > 1e-12 * largest * np.sqrt(features.shape[1])
    return np.divide(offsets, lengths, out=np.zeros_like(offsets), where=nonzero)


def _measure_named(
    candidate: Candidate, labels: Labels, class_names: Sequence[str], groups: NDArray[np.int64]
) -> Advice:
    """Measure a candidate; an error names the candidate."""
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
        knn=nearest_neighbour_accuracy(features, labels, groups),
        relation=relate(candidate.source_classes, class_names).relation,
    )


def _mean_rank(advice: Sequence[Advice]) -> Floats:
    """Mean rank of each candidate over the scores; rank 1 is the highest score."""
    from scipy.stats import rankdata

    scores = [[candidate.logme, candidate.h_score, candidate.knn] for candidate in advice]
    leep_scores = [candidate.leep for candidate in advice]
    table = np.array(scores, np.float64)
    if all(leep_score is not None for leep_score in leep_scores):
        table = np.column_stack([table, np.array(leep_scores, np.float64)])
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
        raise CrosstrainError(
            f"found candidates {names}; expected at least one, with distinct names"
        )
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
        probabilities, columns = candidate.probabilities, len(candidate.source_classes)
        if probabilities is not None and probabilities.shape[1:] != (columns,):
            raise CrosstrainError(
                f"candidate {candidate.name}: found probabilities of shape "
                f"{probabilities.shape} and {columns} source classes; expected a column for each "
                "class"
            )
