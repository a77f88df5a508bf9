"""Distances between the features of two domains; labels are not used.

Shapes: M source items, N target items, D features. A small distance does not make a source useful:
the distance of constant features is 0.
"""

import numpy as np
from numpy.typing import NDArray

from transfer.core.errors import CrosstrainError
from transfer.transferability.feature_matrix import ledoit_wolf

Floats = NDArray[np.float64]
Features = NDArray[np.floating]

FOLDS = 5
REPEATS = 3
MAX_CLASSIFIER_ITEMS = 500
"""Largest number of items of each domain that a domain classifier is trained and tested on."""
LEAST_SHRINKAGE = 1e-6
LARGEST_MMD2 = 10.0
"""`mmd2` of two points far apart: the five kernels are 1 within a domain and 0 across domains."""
MAX_PAIRED_ITEMS = 2000
"""Largest number of items of each domain that are compared pair by pair."""


def proxy_a_distance(
    source_features: Features, target_features: Features, *, seed: int = 0
) -> float:
    """Proxy A-distance 2 (1 - 2 err), 0 to 2: how well a linear classifier separates the domains.

    Ben-David et al., "Analysis of representations for domain adaptation", NeurIPS 2006, and "A
    theory of learning from different domains", Machine Learning 2010. err is the 5-fold
    cross-validated error of a linear discriminant with a shrunk covariance on standardised
    features. min(M, N, 500) items of each domain are drawn at random, so that 5,000 source items
    against 100 target items give a fair result; the error is a mean over 3 draws. With few items
    the classifier learns little and the distance is underestimated: compare distances to the same
    target only.

    Args:
        source_features: (M, D).
        target_features: (N, D).
        seed: random seed of the draws.

    Raises:
        CrosstrainError: a domain has fewer than 2 items, the numbers of features differ, or a
            feature is not finite.
    """
    source, target = _checked(source_features, target_features)
    rng = np.random.default_rng(seed)
    items = min(len(source), len(target), MAX_CLASSIFIER_ITEMS)
    errors = [
        _classifier_error(_draw(source, items, rng), _draw(target, items, rng))
        for _ in range(REPEATS)
    ]
    return float(np.clip(2 * (1 - 2 * np.mean(errors)), 0, 2))


def mmd2(source: Features, target: Features, *, seed: int = 0) -> float:
    """Squared maximum mean discrepancy, unbiased: 0 on average within one distribution, 10 at most.

    Gretton et al., "A kernel two-sample test", JMLR 2012, eq. 3: mean k(x, x') + mean k(y, y') -
    2 mean k(x, y) over pairs of different items. k(a, b) is the sum of exp(-|a - b|^2 / (c h)) over
    c = 1/4, 1/2, 1, 2, 4, where h is the median of |a - b|^2 over all pairs of both samples. It can
    be slightly below 0. From a domain of more than 2,000 items, 2,000 are drawn at random.

    Args:
        source: (M, D).
        target: (N, D).
        seed: random seed of the draw.

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
        permutations: number of random assignments of the items to the two samples.
        seed: random seed of the assignments, and of the draw as in `mmd2`.

    Returns:
        `mmd2`, and the share p = (1 + #{permuted >= observed}) / (1 + permutations) (Phipson &
        Smyth 2010): if both samples have one distribution, P(p <= a) is at most a.

    Raises:
        CrosstrainError: see `proxy_a_distance`.
    """
    rng = np.random.default_rng(seed)
    kernel, size = _pooled_kernel(source, target, rng)
    member = np.arange(len(kernel)) < size
    permuted = rng.permuted(np.repeat(member[:, None], permutations, 1), axis=0)
    values = _discrepancy(kernel, np.concatenate([member[:, None], permuted], 1))
    as_large = (values[1:] >= values[0] - 1e-12).sum()  # a difference by rounding counts as equal
    return float(values[0]), float((1 + as_large) / (1 + permutations))


def _checked(source: Features, target: Features) -> tuple[Features, Features]:
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise CrosstrainError(
            f"found source features of shape {source.shape} and target features of shape "
            f"{target.shape}; expected (items, features) of the same backbone for both"
        )
    if min(len(source), len(target)) < 2 or not source.shape[1]:
        raise CrosstrainError(
            f"found source features of shape {source.shape} and target features of shape "
            f"{target.shape}; expected at least 2 items of each domain and at least 1 feature"
        )
    for domain, features in (("source", source), ("target", target)):
        if not np.isfinite(features).all():
            rows = int((~np.isfinite(features)).any(1).sum())
            raise CrosstrainError(
                f"{domain} features of {rows} of {len(features)} items are NaN or infinite; "
                "expected finite numbers: look for a damaged backbone or inputs not normalised"
            )
    return source, target


def _draw(features: Features, items: int, rng: np.random.Generator) -> Floats:
    return features[rng.permutation(len(features))[:items]].astype(np.float64)


def _classifier_error(source: Floats, target: Floats) -> float:
    """Cross-validated error of a domain classifier on two shuffled samples of equal size."""
    items = len(source)
    features = standardised(np.concatenate([source, target]))
    products = features @ features.T
    side = np.repeat([1.0, -1.0], items)
    fold = np.tile(np.arange(items) % min(FOLDS, items), 2)
    scores = np.zeros(2 * items)
    for test_fold in range(min(FOLDS, items)):
        test = fold == test_fold
        scores[test] = _discriminant(products, features.shape[1], side, ~test)[test]
    return float(((side * scores < 0) + 0.5 * (scores == 0)).mean())


def standardised(features: Floats) -> Floats:
    """Features (N, D) scaled to mean 0 and variance 1; constant features are left out."""
    spread = features.std(0)
    kept = spread > 1e-9 * np.abs(features).max(0)
    return (features[:, kept] - features[:, kept].mean(0)) / spread[kept]


def _discriminant(products: Floats, width: int, side: Floats, train: NDArray[np.bool_]) -> Floats:
    """Score all n items by a linear discriminant: above 0 means source, below 0 target.

    The linear system is solved in the space of items: the matrix of their centred inner products
    has the same eigenvalues as the covariance.

    Args:
        products: (n, n) inner products.
        width: D.
        side: (n,) 1 for the source, -1 for the target.
        train: (n,) which items to train on, equally many of each side.
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
    """Kernel of all pairs, source items first, 0 on the diagonal; and how many are source items."""
    from scipy.spatial.distance import squareform

    samples = [_draw(features, MAX_PAIRED_ITEMS, rng) for features in _checked(source, target)]
    pooled = np.concatenate(samples)
    pooled -= pooled.mean(0)
    lengths = (pooled**2).sum(1)
    squared = pooled @ pooled.T
    squared *= -2
    squared += lengths
    squared += lengths[:, None]
    np.maximum(squared, 0, out=squared)
    np.fill_diagonal(squared, 0)
    pairs = squareform(squared, checks=False)
    scale = np.median(pairs) or pairs.mean() or 1.0  # the median or all distances may be 0
    squared /= scale
    kernel = _multiscale(squared)
    np.fill_diagonal(kernel, 0)
    return kernel, len(samples[0])


def _multiscale(squared: Floats) -> Floats:
    """Sum of exp(-x / c) over c = 4, 2, 1, 1/2, 1/4, each term the square of the one before."""
    term = np.exp(squared / -4)
    total = term.copy()
    for _ in range(4):
        term *= term
        total += term
    return total


def _discrepancy(kernel: Floats, member: NDArray[np.bool_]) -> Floats:
    """Unbiased squared MMD (P,) of P assignments of n items to two samples.

    Args:
        kernel: (n, n), 0 on the diagonal.
        member: (n, P) whether an item is in the first sample, equally often in each column.
    """
    first = member.astype(np.float64)
    m, n = first[:, 0].sum(), len(kernel) - first[:, 0].sum()
    within = (first * (kernel @ first)).sum(0)
    across = kernel.sum(1) @ first - within
    other = kernel.sum() - 2 * across - within
    discrepancy: Floats = within / (m * (m - 1)) + other / (n * (n - 1)) - 2 * across / (m * n)
    return discrepancy
