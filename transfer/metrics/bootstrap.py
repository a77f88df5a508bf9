"""The interval of a paired difference of two mixes of arms, over test items and seeds.

Shapes: A arms (method x seed), N items, K classes, S seeds, D draws of seeds, R replicates.

A percentile bootstrap over items and seeds. Each replicate draws items, for both mixes alike, and
as many seeds as there are, both with replacement; the arm of the drawn seed then stands in for
each arm (where that method has it), in both mixes alike. With g* the difference of the mixes on
the drawn items, g_d that of draw d of seeds on all items, and m_d the mean of g_d over the S
cyclic renamings of the seeds in that draw,

    replicate = g* + r c (g_d - m_d),    c = sqrt(S / x),    x ~ chi-squared, S - 1 degrees.

Each part of the seeds' term mends one fault of drawing from few seeds, crossed with items:

- g_d - m_d: a draw that repeats a seed is a weaker ensemble. So are its renamings: what is left
  is due to which seeds were drawn, and the interval stays where the estimate is.
- c: drawing from S seeds loses 1 / S of the variance (Rao & Wu 1988), and of few seeds the
  variance itself is uncertain, as in Student's t.
- r, in 0..1: g_d - m_d also varies because each seed errs on items of its own, which g* holds
  already (Owen 2007, The pigeonhole bootstrap). r^2 is the share of its mean square that is left
  when what N items explain is taken off, and not below 0.

All S^S draws are used when they are at most 256, else about 256 random ones. One seed gives an
interval over items alone.

That bootstrap has no width where the mixes agree on every item, however few there are. So the
result is its union with the interval of Agresti & Min (2005) for paired proportions, which adds
half an item to each cell of the 2 x 2 table of right and wrong; for balanced accuracy it is taken
class by class, and the half items are shared out.
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
    """Give the low and the high end, in -1..1.

    Args:
        probabilities: (A, N, K).
        labels: (N,) in 0..K-1.
        mixes: two weights (A,); the second is subtracted.
        arms: (A,) method and seed of each, all different.
        by_class: difference of mean recall over the classes that occur, instead of accuracy.
        level: of confidence.
        replicates: R.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    seeds = sorted({s for _, s in arms})
    draws = _draws(len(seeds), rng)
    swaps = _swaps(arms, [seeds, *np.array(seeds)[draws].tolist()])
    moved = np.concatenate([_moved(mix, swaps) for mix in mixes])
    strata = np.unique(labels, return_inverse=True)[1] if by_class else np.zeros_like(labels)
    changes = _changes(probabilities, labels, strata, moved, len(seeds))
    values = _by_items(changes.table, replicates, rng) + _by_seeds(changes, replicates, rng)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    least, most = _agresti_min(changes.table, level)
    return max(min(low, least), -1.0), min(max(high, most), 1.0)


def _draws(seeds: int, rng: np.random.Generator) -> Counts:
    """Draws (D, S) of 0..S-1; each S in a row are renamings of one another."""
    if seeds**seeds <= MAX_DRAWS:
        first = np.array([(0, *rest) for rest in itertools.product(range(seeds), repeat=seeds - 1)])
    else:
        first = rng.integers(0, seeds, (-(-MAX_DRAWS // seeds), seeds))
    renamed = (first[:, None] + np.arange(seeds)[:, None]) % seeds  # D / S x S x S
    return renamed.reshape(-1, seeds)


def _swaps(arms: Sequence[Arm], draws: Sequence[Sequence[int]]) -> Counts:
    """Which arm stands in for each (D, A), by draw of seeds."""
    seeds, place = draws[0], {arm: a for a, arm in enumerate(arms)}
    names = [dict(zip(seeds, draw, strict=True)) for draw in draws]
    return np.array([[place.get((m, new[s]), a) for (m, s), a in place.items()] for new in names])


def _moved(weights: Floats, swaps: Counts) -> Floats:
    """Weights (D, A) of a mix when the arms are swapped."""
    moved = np.zeros(swaps.shape)
    np.add.at(moved, (np.arange(len(swaps))[:, None], swaps), weights)
    return moved


@dataclass
class _Changes:
    """Items that one mix gets right and the other wrong. G strata, D / S renamings of S draws."""

    table: Counts  # G x 3: items lost, equal and won by the mixes as they are
    sums: Floats  # D / S x S x G: won - lost, by draw
    spread: Floats  # G: variance of (won - lost) of an item over renamings, summed over items


def _changes(
    probabilities: NDArray[np.floating],
    labels: Counts,
    strata: Counts,
    moved: Floats,
    seeds: int,
) -> _Changes:
    half, count = len(moved) // 2, int(strata.max()) + 1
    found = _Changes(np.zeros((count, 3), np.int64), np.zeros(0), np.zeros(count))
    distinct, which = np.unique(moved, axis=0, return_inverse=True)
    ours, theirs = which.reshape(2, half)
    sums = np.zeros((half - 1, count))
    step = max(1, BLOCK // (len(distinct) * probabilities.shape[2]))
    for start in range(0, len(labels), step):
        items = slice(start, start + step)
        mixed = np.tensordot(distinct, probabilities[:, items].astype(np.float64), 1)
        right = (mixed.argmax(2) == labels[items]).astype(np.float64)
        change = right[ours] - right[theirs]  # 1 + D x items
        member = np.eye(count)[strata[items]]  # items x G
        np.add.at(found.table, (strata[items], change[0].astype(np.int64) + 1), 1)
        sums += change[1:] @ member
        found.spread += change[1:].reshape(-1, seeds, len(member)).var(1).mean(0) @ member
    found.sums = sums.reshape(-1, seeds, count)
    return found


def _by_items(table: Counts, replicates: int, rng: np.random.Generator) -> Floats:
    """Differences (R,) on drawn items: to draw items and count them is to draw a multinomial."""
    drawn = rng.multinomial(table.sum(), table.ravel() / table.sum(), replicates)
    cells = drawn.reshape(-1, *table.shape)
    items = cells.sum(2)
    shares = (cells[..., 2] - cells[..., 0]) / np.maximum(items, 1)
    difference: Floats = shares.sum(1) / (items > 0).sum(1)
    return difference


def _by_seeds(changes: _Changes, replicates: int, rng: np.random.Generator) -> Floats:
    """What drawn seeds add (R,): r c (g_d - m_d)."""
    seeds, count = changes.sums.shape[1:]
    items = changes.table.sum(1)
    apart = changes.sums / items
    apart = apart - apart.mean(1, keepdims=True)
    off = apart.mean(2)  # g_d - m_d
    variance = (off**2).mean()
    if variance == 0:
        return np.zeros(replicates)
    noise = (changes.spread / items - (apart**2).mean((0, 1))) / np.maximum(items - 1, 1)
    left = max(0.0, 1 - noise.sum() / count**2 / variance)
    scale = np.sqrt(seeds / rng.chisquare(seeds - 1, replicates))
    drawn: Floats = left**0.5 * scale * rng.choice(off.ravel(), replicates)
    return drawn


def _agresti_min(table: Counts, level: float) -> tuple[float, float]:
    """Interval of a paired difference of shares, the mean over strata; the table is (G, 3)."""
    half = 0.5 / len(table)
    lost, won, items = table[:, 0] + half, table[:, 2] + half, table.sum(1) + 4 * half
    difference = (won - lost) / items
    variance = ((won + lost) / items - difference**2) / items
    centre = difference.mean()
    reach = NormalDist().inv_cdf((1 + level) / 2) * variance.sum() ** 0.5 / len(table)
    return centre - reach, centre + reach
