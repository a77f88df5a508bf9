"""Confidence interval of a paired difference of two mixes of arms, over test items and seeds.

A mix is a weighted sum of the class probabilities of arms (method x seed). Shapes: A arms, N items,
K classes, S seeds, D draws of seeds, R replicates.

The method is a percentile bootstrap over items and seeds. Each replicate draws items, the same for
both mixes, and as many seeds as there are; both are drawn with replacement. An arm of the drawn
seed then replaces each arm, where that method has one, in both mixes. With g* the difference of
the mixes on the drawn items, g_d the difference for draw d of seeds on all items, and m_d the mean
of g_d over the S cyclic renamings of the seeds in that draw,

    replicate = g* + r c (g_d - m_d),    c = sqrt(S / x),    x ~ chi-squared, S - 1 degrees.

Each part of the seeds' term corrects one error of drawing from few seeds, crossed with items:

- g_d - m_d: a draw that repeats a seed is a weaker ensemble, and so are its renamings. The
  difference that remains is due to which seeds were drawn, and the interval is not shifted away
  from the estimate.
- c: drawing from S seeds loses 1 / S of the variance (Rao & Wu 1988), and for few seeds the
  variance itself is uncertain, as in Student's t.
- r, in 0..1: g_d - m_d also varies because each seed makes errors on different items, which g*
  contains already (Owen 2007, The pigeonhole bootstrap). r^2 is the share of the mean square of
  g_d - m_d that remains after subtracting what N items explain; it is not below 0.

All S^S draws are used when there are at most 256, else about 256 random draws. With one seed the
interval is over items alone.

The bootstrap interval has width 0 where the mixes agree on every item, even when there are few
items. So the result is its union with the interval of Agresti & Min (2005) for paired proportions,
which adds half an item to each cell of the 2 x 2 table of right and wrong. For balanced accuracy
that interval is computed class by class, and the half items are divided among the classes.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Arm = tuple[str, int]

MAX_DRAWS = 256
BLOCK = 4_000_000  # probabilities mixed at once


def paired_interval(
    probabilities: NDArray[np.floating],
    labels: Counts,
    mixes: tuple[Floats, Floats],
    arms: Sequence[Arm],
    *,
    by_class: bool,
    level: float,
    replicates: int,
    seed: int,
) -> tuple[float, float]:
    """Low and high end of the interval, each in -1..1.

    Args:
        probabilities: (A, N, K).
        labels: (N,) in 0..K-1.
        mixes: weights (A,) of the two mixes; the second mix is subtracted.
        arms: (A,) method and seed of each arm; no pair occurs twice.
        by_class: the metric is the mean recall over the classes that occur, instead of accuracy.
        level: confidence level.
        replicates: R, number of bootstrap replicates.
        seed: random seed of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    seeds = sorted({s for _, s in arms})
    draws = _draw_seeds(len(seeds), rng)
    substitutes = _substitute_arms(arms, [seeds, *np.array(seeds)[draws].tolist()])
    substituted = np.concatenate([_substitute_weights(mix, substitutes) for mix in mixes])
    strata = np.unique(labels, return_inverse=True)[1] if by_class else np.zeros_like(labels)
    changes = _count_changes(probabilities, labels, strata, substituted, len(seeds))
    values = _item_differences(changes.table, replicates, rng) + _seed_terms(
        changes, replicates, rng
    )
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    least, most = _agresti_min_interval(changes.table, level)
    return max(min(low, least), -1.0), min(max(high, most), 1.0)


def _draw_seeds(seeds: int, rng: np.random.Generator) -> Counts:
    """Draws (D, S) of 0..S-1; every S consecutive rows are cyclic renamings of one draw."""
    if seeds**seeds <= MAX_DRAWS:
        first = np.array([(0, *rest) for rest in itertools.product(range(seeds), repeat=seeds - 1)])
    else:
        first = rng.integers(0, seeds, (-(-MAX_DRAWS // seeds), seeds))
    renamed = (first[:, None] + np.arange(seeds)[:, None]) % seeds  # D / S x S x S
    return renamed.reshape(-1, seeds)


def _substitute_arms(arms: Sequence[Arm], draws: Sequence[Sequence[int]]) -> Counts:
    """Row of the arm that replaces each arm, for each draw of seeds: (D, A)."""
    seeds, rows = draws[0], {arm: row for row, arm in enumerate(arms)}
    replacements = [dict(zip(seeds, draw, strict=True)) for draw in draws]
    return np.array(
        [
            [rows.get((method, replacement[seed]), row) for (method, seed), row in rows.items()]
            for replacement in replacements
        ]
    )


def _substitute_weights(weights: Floats, substitutes: Counts) -> Floats:
    """Weights (D, A) of a mix after its arms are replaced."""
    substituted = np.zeros(substitutes.shape)
    np.add.at(substituted, (np.arange(len(substitutes))[:, None], substitutes), weights)
    return substituted


@dataclass
class _ChangedItems:
    """Items that one mix predicts right and the other wrong. G strata, D / S groups of S draws."""

    table: Counts  # G x 3: items lost, equal and won by the first mix, without drawing
    sums: Floats  # D / S x S x G: won - lost, by draw
    spread: Floats  # G: variance of (won - lost) of an item over renamings, summed over items


def _count_changes(
    probabilities: NDArray[np.floating],
    labels: Counts,
    strata: Counts,
    mix_weights: Floats,
    seeds: int,
) -> _ChangedItems:
    draw_count, strata_count = len(mix_weights) // 2, int(strata.max()) + 1
    changes = _ChangedItems(
        np.zeros((strata_count, 3), np.int64), np.zeros(0), np.zeros(strata_count)
    )
    distinct, distinct_row = np.unique(mix_weights, axis=0, return_inverse=True)
    first_rows, second_rows = distinct_row.reshape(2, draw_count)
    sums = np.zeros((draw_count - 1, strata_count))
    block = max(1, BLOCK // (len(distinct) * probabilities.shape[2]))
    for start in range(0, len(labels), block):
        items = slice(start, start + block)
        mixed = np.tensordot(distinct, probabilities[:, items].astype(np.float64), 1)
        right = (mixed.argmax(2) == labels[items]).astype(np.float64)
        change = right[first_rows] - right[second_rows]  # 1 + D x items
        member = np.eye(strata_count)[strata[items]]  # items x G
        np.add.at(changes.table, (strata[items], change[0].astype(np.int64) + 1), 1)
        sums += change[1:] @ member
        changes.spread += change[1:].reshape(-1, seeds, len(member)).var(1).mean(0) @ member
    changes.sums = sums.reshape(-1, seeds, strata_count)
    return changes


def _item_differences(table: Counts, replicates: int, rng: np.random.Generator) -> Floats:
    """Differences (R,) on drawn items: counts of drawn items have a multinomial distribution."""
    drawn = rng.multinomial(table.sum(), table.ravel() / table.sum(), replicates)
    cells = drawn.reshape(-1, *table.shape)
    items = cells.sum(2)
    shares = (cells[..., 2] - cells[..., 0]) / np.maximum(items, 1)
    difference: Floats = shares.sum(1) / (items > 0).sum(1)
    return difference


def _seed_terms(changes: _ChangedItems, replicates: int, rng: np.random.Generator) -> Floats:
    """The seeds' term of each replicate (R,): r c (g_d - m_d)."""
    seeds, strata_count = changes.sums.shape[1:]
    items = changes.table.sum(1)
    deviations = changes.sums / items
    deviations = deviations - deviations.mean(1, keepdims=True)
    seed_effects = deviations.mean(2)  # g_d - m_d
    variance = (seed_effects**2).mean()
    if variance == 0:
        return np.zeros(replicates)
    noise = (changes.spread / items - (deviations**2).mean((0, 1))) / np.maximum(items - 1, 1)
    remaining_share = max(0.0, 1 - noise.sum() / strata_count**2 / variance)
    scale = np.sqrt(seeds / rng.chisquare(seeds - 1, replicates))
    drawn: Floats = remaining_share**0.5 * scale * rng.choice(seed_effects.ravel(), replicates)
    return drawn


def _agresti_min_interval(table: Counts, level: float) -> tuple[float, float]:
    """Interval of a paired difference of shares, the mean over strata; the table is (G, 3)."""
    half = 0.5 / len(table)
    lost, won, items = table[:, 0] + half, table[:, 2] + half, table.sum(1) + 4 * half
    difference = (won - lost) / items
    variance = ((won + lost) / items - difference**2) / items
    centre = difference.mean()
    reach = NormalDist().inv_cdf((1 + level) / 2) * variance.sum() ** 0.5 / len(table)
    return centre - reach, centre + reach
