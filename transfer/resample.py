"""The interval of a paired difference of two mixes of arms, over test items and seeds.

Shapes: A arms (method x seed), N items, K classes, S seeds, D draws of seeds, R replicates.

It is a percentile bootstrap over items and seeds. Each replicate draws as many seeds as
there are, with replacement, and puts the arm of the drawn seed in place of each arm (where that
method has it), in both mixes alike; then it draws items, for both mixes alike. With g the point
estimate, g_d the gain of draw d on all items and g* that on the drawn items,

    replicate = g + (g* - g_d) + sqrt(S / (S - 1)) (g_d - mean_d g_d).

The factor makes up for the variance that resampling only S seeds loses (Rao & Wu 1988). The
centring keeps a draw with repeated seeds, whose mixes are weaker ensembles, from shifting the
interval. All S^S draws are used when they are at most 256, else 256 random ones. A single seed
gives an interval over items alone.

That bootstrap has no width where the mixes agree on every item, however few there are. So the
result is its union with the interval of Agresti & Min (2005) for paired proportions, which adds
half an item to each cell of the 2 x 2 table of right and wrong; for balanced accuracy it is taken
class by class, and the half items are shared out.
"""

import itertools
from collections.abc import Sequence
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
    point: float,
    *,
    by_class: bool,
    level: float,
    replicates: int,
    seed: int,
) -> tuple[float, float]:
    """Give the low and the high end.

    Args:
        probabilities: (A, N, K).
        labels: (N,) in 0..K-1.
        mixes: two weights (A,); the second is subtracted.
        arms: (A,) method and seed of each, all different.
        point: estimate g.
        by_class: difference of mean recall over the classes that occur, instead of accuracy.
        level: of confidence.
        replicates: R.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    swaps = _swaps(arms, rng)
    moved = np.concatenate([_moved(mix, swaps) for mix in mixes])
    tables = _tables(probabilities, labels, moved)
    if not by_class:
        tables = tables.sum(1, keepdims=True)
    values = point + _scatter(tables[1:], len({s for _, s in arms}), replicates, rng)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    least, most = _agresti_min(tables[0], level)
    return min(low, least), max(high, most)


def _swaps(arms: Sequence[Arm], rng: np.random.Generator) -> Counts:
    """Which arm stands in for each (1 + D, A): first each for itself, then by draws of seeds."""
    seeds = sorted({seed for _, seed in arms})
    total = len(seeds) ** len(seeds)
    if total <= MAX_DRAWS:
        draws = list(itertools.product(seeds, repeat=len(seeds)))
    else:
        draws = rng.choice(seeds, (MAX_DRAWS, len(seeds))).tolist()
    place = {arm: a for a, arm in enumerate(arms)}
    stand_ins = [dict(zip(seeds, draw, strict=True)) for draw in [seeds, *draws]]
    return np.array(
        [[place.get((m, new[s]), a) for (m, s), a in place.items()] for new in stand_ins]
    )


def _moved(weights: Floats, swaps: Counts) -> Floats:
    """Weights (1 + D, A) of a mix when the arms are swapped."""
    moved = np.zeros(swaps.shape)
    np.add.at(moved, (np.arange(len(swaps))[:, None], swaps), weights)
    return moved


def _tables(probabilities: NDArray[np.floating], labels: Counts, mixes: Floats) -> Counts:
    """Count items (1 + D, K, 3) by draw, class, and change: lost, equal or won.

    The first half of ``mixes`` (2 + 2D, A) is the one mix by draw, the second half the other.
    """
    classes, half = probabilities.shape[2], len(mixes) // 2
    distinct, which = np.unique(mixes, axis=0, return_inverse=True)
    which = which.ravel()
    counts = np.zeros(half * classes * 3, np.int64)
    step = max(1, BLOCK // (len(distinct) * classes))
    for start in range(0, len(labels), step):
        items = slice(start, start + step)
        mixed = np.tensordot(distinct, probabilities[:, items].astype(np.float64), 1)
        right = (mixed.argmax(2) == labels[items]).astype(np.int64)
        change = right[which[:half]] - right[which[half:]] + 1
        cells = (np.arange(half)[:, None] * classes + labels[items]) * 3 + change
        counts += np.bincount(cells.ravel(), minlength=len(counts))
    return counts.reshape(half, classes, 3)


def _difference(tables: Counts) -> Floats:
    """Mean over the strata that occur of (won - lost) / items; tables are (..., strata, 3)."""
    items = tables.sum(-1)
    shares = (tables[..., 2] - tables[..., 0]) / np.maximum(items, 1)
    difference: Floats = shares.sum(-1) / (items > 0).sum(-1)
    return difference


def _scatter(tables: Counts, seeds: int, replicates: int, rng: np.random.Generator) -> Floats:
    """How far replicates (R,) lie from the point estimate; tables are (D, strata, 3).

    Drawing items with replacement and counting them is drawing the counts of a multinomial.
    """
    shares = tables.reshape(len(tables), -1) / tables[0].sum()
    of_draw = _difference(tables)
    picks = rng.integers(0, len(tables), replicates)
    drawn = rng.multinomial(tables[0].sum(), shares[picks]).reshape(-1, *tables.shape[1:])
    by_seed = np.sqrt(seeds / max(seeds - 1, 1)) * (of_draw[picks] - of_draw.mean())
    scatter: Floats = _difference(drawn) - of_draw[picks] + by_seed
    return scatter


def _agresti_min(table: Counts, level: float) -> tuple[float, float]:
    """Interval of a paired difference of shares, the mean over strata; the table is (strata, 3)."""
    table = table[table.sum(1) > 0]
    half = 0.5 / len(table)
    lost, won, items = table[:, 0] + half, table[:, 2] + half, table.sum(1) + 4 * half
    difference = (won - lost) / items
    variance = ((won + lost) / items - difference**2) / items
    centre = difference.mean()
    reach = NormalDist().inv_cdf((1 + level) / 2) * variance.sum() ** 0.5 / len(table)
    return max(centre - reach, -1.0), min(centre + reach, 1.0)
