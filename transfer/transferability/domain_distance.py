"""How far apart the features of two domains lie, without a look at any label.

Shapes: M source items, N target items, D features. A small distance does not make a source useful:
constant features have none.
"""

import numpy as np
from numpy.typing import NDArray

from transfer.core.errors import CrosstrainError
from transfer.transferability import ledoit_wolf

Floats = NDArray[np.float64]
Features = NDArray[np.floating]

FOLDS = 5
ROUNDS = 3
SIDE = 500
"""Items of each domain that a domain classifier is trained and judged on at most."""
LEAST_SHRINKAGE = 1e-6
LARGEST_MMD2 = 10.0
"""What `mmd2` is for two points far apart: the five kernels are 1 within and 0 across."""
LARGEST = 2000
"""Items of each domain that are compared pair by pair at most."""


def proxy_a_distance(
    source_features: Features, target_features: Features, *, seed: int = 0
) -> float:
    """Proxy A-distance 2 (1 - 2 err), 0 to 2: how well a linear classifier tells domains apart.

    Ben-David et al., "Analysis of representations for domain adaptation", NeurIPS 2006, and "A
    theory of learning from different domains", Machine Learning 2010. err is the 5-fold
    cross-validated error of a linear discriminant with a shrunk covariance on standardised
    features. Both domains give as many items, min(M, N, 500) drawn at random, so 5,000 against 100
    is fair; the error is a mean over 3 draws. With few items the classifier learns little and the
    distance is underestimated: compare distances to the same target only.

    Args:
        source_features: (M, D).
        target_features: (N, D).
        seed: of the draws.

    Raises:
        CrosstrainError: a domain has fewer than 2 items, the widths differ, or a feature is not
            finite.
    """
    source, target = _checked(source_features, target_features)
    rng = np.random.default_rng(seed)
    side = min(len(source), len(target), SIDE)
    errors = [_error(_draw(source, side, rng), _draw(target, side, rng)) for _ in range(ROUNDS)]
    return float(np.clip(2 * (1 - 2 * np.mean(errors)), 0, 2))


def mmd2(source: Features, target: Features, *, seed: int = 0) -> float:
    """Squared maximum mean discrepancy, unbiased: 0 on average within one distribution, 10 at most.

    Gretton et al., "A kernel two-sample test", JMLR 2012, eq. 3: mean k(x, x') + mean k(y, y') -
    2 mean k(x, y) over pairs of different items. k(a, b) is the sum of exp(-|a - b|^2 / (c h)) over
    c = 1/4, 1/2, 1, 2, 4, where h is the median of |a - b|^2 over all pairs of both samples. It can
    be a little below 0. Domains of more than 2,000 items are represented by a draw.

    Args:
        source: (M, D).
        target: (N, D).
        seed: of the draw.

    Raises:
        CrosstrainError: see `proxy_a_distance`.
    """
    kernel, size = _pooled_kernel(source, target, np.random.default_rng(seed))
    member = np.arange(len(kernel)) < size
    return float(_discrepancy(kernel, member[:, None])[0])


def mmd_test(
    source: Features, target: Features, permutations: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Test whether two samples come from one distribution.

    Args:
        source: (M, D).
        target: (N, D).
        permutations: how often the items are dealt to the two samples anew.
        seed: of the deals, and of the draw as in `mmd2`.

    Returns:
        `mmd2`, and the share p = (1 + #{permuted >= observed}) / (1 + permutations) (Phipson &
        Smyth 2010): where the distribution is one, p <= a has a probability of at most a.

    Raises:
        CrosstrainError: see `proxy_a_distance`.
    """
    rng = np.random.default_rng(seed)
    kernel, size = _pooled_kernel(source, target, rng)
    member = np.arange(len(kernel)) < size
    dealt = rng.permuted(np.repeat(member[:, None], permutations, 1), axis=0)
    found = _discrepancy(kernel, np.concatenate([member[:, None], dealt], 1))
    as_large = (found[1:] >= found[0] - 1e-12).sum()  # equal but for rounding counts as equal
    return float(found[0]), float((1 + as_large) / (1 + permutations))


def _checked(source: Features, target: Features) -> tuple[Features, Features]:
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise CrosstrainError(
            f"found source features of shape {source.shape} and target features of shape "
            f"{target.shape}; expected (items, features) of one body for both"
        )
    if min(len(source), len(target)) < 2 or not source.shape[1]:
        raise CrosstrainError(
            f"found source features of shape {source.shape} and target features of shape "
            f"{target.shape}; expected 2 items or more of each and a feature or more"
        )
    for whose, features in (("source", source), ("target", target)):
        if not np.isfinite(features).all():
            rows = int((~np.isfinite(features)).any(1).sum())
            raise CrosstrainError(
                f"{whose} features of {rows} of {len(features)} items are NaN or infinite; "
                "expected finite numbers: look for a damaged body or inputs not normalised"
            )
    return source, target


def _draw(features: Features, items: int, rng: np.random.Generator) -> Floats:
    return features[rng.permutation(len(features))[:items]].astype(np.float64)


def _error(source: Floats, target: Floats) -> float:
    """Cross-validated error of a domain classifier on two shuffled samples of equal size."""
    items = len(source)
    both = standardised(np.concatenate([source, target]))
    products = both @ both.T
    side = np.repeat([1.0, -1.0], items)
    fold = np.tile(np.arange(items) % min(FOLDS, items), 2)
    scores = np.zeros(2 * items)
    for held in range(min(FOLDS, items)):
        test = fold == held
        scores[test] = _discriminant(products, both.shape[1], side, ~test)[test]
    return float(((side * scores < 0) + 0.5 * (scores == 0)).mean())


def standardised(features: Floats) -> Floats:
    """Features (N, D) of mean 0 and variance 1; constant ones are left out."""
    spread = features.std(0)
    kept = spread > 1e-9 * np.abs(features).max(0)
    return (features[:, kept] - features[:, kept].mean(0)) / spread[kept]


def _discriminant(products: Floats, width: int, side: Floats, train: NDArray[np.bool_]) -> Floats:
    """Score all n items by a linear discriminant: above 0 means source, below 0 target.

    Solves in the space of items, whose centred inner products share their eigenvalues with the
    covariance.

    Args:
        products: (n, n) inner products.
        width: D.
        side: (n,) 1 for the source, -1 for the target.
        train: (n,) which items to learn from, as many of each side.
    """
    kernel = products[np.ix_(train, train)] / train.sum()
    kernel += kernel.mean() - kernel.mean(0) - kernel.mean(1)[:, None]
    lengths = len(kernel) * kernel.diagonal()
    share = max(ledoit_wolf(lengths, (kernel**2).sum(), max(width, 1)), LEAST_SHRINKAGE)
    kernel *= 1 - share
    kernel[np.diag_indices_from(kernel)] += share * lengths.mean() / max(width, 1) + 1e-12
    weight = np.linalg.solve(kernel, side[train])
    scores = products[:, train] @ (weight - weight.mean())
    centred: Floats = scores - scores[train].mean()
    return centred


def _pooled_kernel(
    source: Features, target: Features, rng: np.random.Generator
) -> tuple[Floats, int]:
    """Kernel of all pairs, source before target, 0 on the diagonal; and how many are source."""
    from scipy.spatial.distance import squareform

    sides = [_draw(side, LARGEST, rng) for side in _checked(source, target)]
    pooled = np.concatenate(sides)
    pooled -= pooled.mean(0)
    lengths = (pooled**2).sum(1)
    squared = pooled @ pooled.T
    squared *= -2
    squared += lengths
    squared += lengths[:, None]
    np.maximum(squared, 0, out=squared)
    np.fill_diagonal(squared, 0)
    pairs = squareform(squared, checks=False)
    scale = np.median(pairs) or pairs.mean() or 1.0  # half the pairs or all of them may be copies
    squared /= scale
    kernel = _multiscale(squared)
    np.fill_diagonal(kernel, 0)
    return kernel, len(sides[0])


def _multiscale(squared: Floats) -> Floats:
    """Sum of exp(-x / c) over c = 4, 2, 1, 1/2, 1/4, each term the square of the one before."""
    term = np.exp(squared / -4)
    total = term.copy()
    for _ in range(4):
        term *= term
        total += term
    return total


def _discrepancy(kernel: Floats, member: NDArray[np.bool_]) -> Floats:
    """Unbiased squared MMD (P,) of P ways to deal n items to two samples.

    Args:
        kernel: (n, n), 0 on the diagonal.
        member: (n, P) whether an item is in the first sample, equally often in each column.
    """
    first = member.astype(np.float64)
    m, n = first[:, 0].sum(), len(kernel) - first[:, 0].sum()
    within = (first * (kernel @ first)).sum(0)
    across = kernel.sum(1) @ first - within
    other = kernel.sum() - 2 * across - within
    found: Floats = within / (m * (m - 1)) + other / (n * (n - 1)) - 2 * across / (m * n)
    return found
