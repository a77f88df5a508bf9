"""Copies of one picture: exact ones link items into sets, near ones are found and reported."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from transfer.errors import SettingsError

THUMB = 16  # side of a thumbnail, in pixels
MAX_PAIRS = 100_000  # a search that finds this many stops: the limit says nothing about this data
_ROWS = 2048  # rows of a block of the distance matrix: 2048 x 2048 float32 = 16 MiB
_RECHECK = 16_384  # candidates rechecked at a time: 16384 x 256 float64 = 32 MiB


@dataclass(frozen=True)
class NearPair:
    """Two items on different sides whose thumbnails differ by ``rms`` (0..1)."""

    a: str  # id; its side's name sorts before that of b
    b: str
    rms: float


def links(items: pd.DataFrame) -> dict[str, np.ndarray]:
    """Code what makes items belong together: equal codes in a column are one set.

    Args:
        items: a manifest's items, N rows.

    Returns:
        ``pixels``, ``sha256`` and ``group``, each N integers. An empty value belongs to itself
        alone, and so do the bytes of an array file, which hold many pictures.
    """
    return {
        "pixels": _codes(items["pixels"]),
        "sha256": _codes(file_hashes(items)),
        "group": _codes(items["group"]),
    }


def file_hashes(items: pd.DataFrame) -> pd.Series:
    """Give the sha256 of each item's own file; '' for a row of an array file."""
    return items["sha256"].where(items["format"] != "array", "")


def linked_sets(items: pd.DataFrame) -> np.ndarray:
    """Number the sets of items that belong together, through copies or groups, also in a chain.

    Whatever divides items (splits, folds of a cross-validation) keeps each set whole, or leaks.

    Args:
        items: a manifest's items, N rows.

    Returns:
        N integers from 0, the connected components of the graph whose edges are `links`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, n = [], len(items)
    first = n
    for codes in links(items).values():
        nodes.append(codes + first)
        first += int(codes.max(initial=-1)) + 1
    rows = np.tile(np.arange(n), len(nodes))
    edges = (np.ones(len(rows), np.int8), (rows, np.concatenate(nodes)))
    component = connected_components(coo_array(edges, shape=(first, first)), directed=False)[1]
    return np.unique(component[:n], return_inverse=True)[1]


def _codes(values: pd.Series) -> np.ndarray:
    codes, names = pd.factorize(values)
    blank = (values == "").to_numpy()
    codes[blank] = len(names) + np.arange(blank.sum())
    return codes.astype(np.int64)


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Reduce pictures to 16 x 16 grey area means.

    Grey is the mean over channels. A cell covers H/16 x W/16 pixels, and a pixel that two cells
    share counts in each by its share of the area, so any size works, below 16 as well.

    Args:
        images: N x C x H x W, uint8.

    Returns:
        N x 256, float32, 0..1.
    """
    n, _, height, width = images.shape
    down, across = _area_weights(height), _area_weights(width).T
    thumbs = np.empty((n, THUMB * THUMB), np.float32)
    step = max(1, 2**22 // (height * width))
    for start in range(0, n, step):
        grey = images[start : start + step].mean(axis=1, dtype=np.float32)  # n x H x W
        thumbs[start : start + step] = (down @ grey @ across).reshape(len(grey), -1) / 255
    return thumbs


def _area_weights(size: int) -> np.ndarray:
    """Share of each of ``size`` pixels in each of the 16 cells, 16 x size; rows sum to 1."""
    edges = np.arange(THUMB + 1) * (size / THUMB)
    pixel = np.arange(size)
    low = np.maximum(edges[:-1, None], pixel)
    high = np.minimum(edges[1:, None], pixel + 1)
    return (np.clip(high - low, 0, None) * (THUMB / size)).astype(np.float32)


def near_pairs(
    images: np.ndarray, ids: Sequence[str], sides: Sequence[str], *, max_rms: float
) -> list[NearPair]:
    """Find pictures on different sides that look alike, closest first.

    Items on the side ``excluded`` are left out. Exact copies never stand on two sides after
    `transfer.split`, so a distance of 0 means pictures that became equal by resizing.

    Args:
        images: N x C x H x W, uint8.
        ids: N.
        sides: N, such as the ``split`` column.
        max_rms: largest root mean square difference between thumbnails, 0..1.

    Returns:
        All pairs, or the first MAX_PAIRS that were met when there are more.

    Raises:
        SettingsError: max_rms is outside 0..1, or the lengths differ.
    """
    if not len(images) == len(ids) == len(sides):
        raise SettingsError(f"{len(images)} images, {len(ids)} ids and {len(sides)} sides differ")
    return near_thumbnails(thumbnails(images), ids, sides, max_rms=max_rms)


def near_thumbnails(
    thumbs: np.ndarray, ids: Sequence[str], sides: Sequence[str], *, max_rms: float
) -> list[NearPair]:
    """Do what `near_pairs` does for thumbnails, N x 256: for pictures of several sizes.

    Raises:
        SettingsError: max_rms is outside 0..1.
    """
    if not 0 <= max_rms <= 1:
        raise SettingsError(f"max_rms is {max_rms}; expected a fraction of the grey scale, 0..1")
    side = np.asarray(sides, dtype=str)
    found: list[NearPair] = []
    for one, other in itertools.combinations(sorted(set(side) - {"excluded"}), 2):
        a, b = np.flatnonzero(side == one), np.flatnonzero(side == other)
        for i, j, rms in _close(thumbs[a], thumbs[b], max_rms):
            found.extend(map(NearPair, *_named(ids, a[i], b[j]), rms.tolist()))
            if len(found) >= MAX_PAIRS:
                break
    return sorted(found[:MAX_PAIRS], key=lambda pair: (pair.rms, pair.a, pair.b))


def _named(ids: Sequence[str], *rows: np.ndarray) -> list[list[str]]:
    names = np.asarray(ids, dtype=object)
    return [names[row].tolist() for row in rows]


def _close(
    a: np.ndarray, b: np.ndarray, max_rms: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield rows of ``a``, rows of ``b`` and their distance, for the pairs within ``max_rms``.

    The product |x|^2 + |y|^2 - 2xy in float32 loses the digits of a small distance, so it only
    proposes candidates, with room for its rounding; float64 differences decide.
    """
    centre = a.mean(axis=0)
    x, y = a - centre, b - centre
    xx, yy = (np.einsum("nd,nd->n", z, z) for z in (x, y))
    room = 1e-4 * max(xx.max(initial=0), yy.max(initial=0)) + 1e-9
    bound = max_rms**2 * a.shape[1] + room
    for top, left in itertools.product(range(0, len(x), _ROWS), range(0, len(y), _ROWS)):
        rows, columns = slice(top, top + _ROWS), slice(left, left + _ROWS)
        square = x[rows] @ y[columns].T
        square *= -2
        square += xx[rows, None]
        square += yy[columns]
        i, j = np.nonzero(square <= bound)
        for start in range(0, len(i), _RECHECK):
            part = slice(start, start + _RECHECK)
            p, q = i[part] + top, j[part] + left
            rms = np.sqrt(np.square(a[p].astype(np.float64) - b[q]).mean(axis=1))
            keep = rms <= max_rms
            yield p[keep], q[keep], rms[keep]
