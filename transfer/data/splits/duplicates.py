"""Copies of one item: exact ones link items into sets, near ones are found and reported."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from transfer.core.errors import SettingsError
from transfer.data.storage.table import PART, Items, chosen, first_filled, parts
from transfer.data.storage.tensor_store import Records
from transfer.modalities.interface import Modality

MAX_PAIRS = 100_000  # the search stops at so many pairs: the threshold does not suit the data
JUDGED = 5_000  # most test items, and most val items, whose near-duplicates are searched
BLANK = np.uint64(0)
_ROWS = 2048  # rows of a block of the distance matrix: 2048 x 2048 float32 = 16 MiB
_RECHECK = 16_384  # candidates rechecked at a time: 16384 x 256 float64 = 32 MiB


@dataclass(frozen=True)
class NearPair:
    """Two items on different sides whose fingerprints differ by ``rms``."""

    a: str  # id; its side's name sorts before that of b
    b: str
    rms: float


def links(items: pd.DataFrame) -> dict[str, np.ndarray]:
    """Codes of what links items: items with equal codes in a column belong together.

    Args:
        items: a manifest's items, N rows.

    Returns:
        ``content``, ``sha256`` and ``group``, each N integers. An empty value belongs to itself
        alone, and so do the bytes of an array file, which hold many items.
    """
    return {
        "content": codes(items["content"]),
        "sha256": codes(file_hashes(items)),
        "group": codes(items["group"]),
    }


def file_hashes(items: pd.DataFrame) -> pd.Series:
    """The sha256 of each item's own file; '' for a row of an array file."""
    return items["sha256"].where(items["format"] != "array", "")


_READ = {"sha256": ("sha256", "format"), "key": ("group", "content")}


def hashes(items: Items, column: str) -> NDArray[np.uint64]:
    """N hashes of 64 bits that are equal where the values of a column are equal.

    Some two different values of N get the same hash with a probability below N * N / 2 ** 65: 7e-7
    for five million. They would count as copies, so one of the items could be left out of training.

    Args:
        column: for ``sha256`` the items' own files, see `file_hashes`; ``key`` for what an item
            is drawn by, its group or else its content.

    Returns:
        `BLANK` for an empty value, and for no other value.
    """
    hashed = np.empty(len(items), np.uint64)
    for rows, part in hashes_in_parts(items, column):
        hashed[rows] = part
    return hashed


def hashes_in_parts(items: Items, column: str) -> Iterator[tuple[slice, NDArray[np.uint64]]]:
    """Yield `hashes` in parts: the slice of rows, and their hashes."""
    names = _READ.get(column, (column,))
    for rows, part in parts(items, *names):
        values = file_hashes(part) if column == "sha256" else first_filled(part, *names)
        numbers = pd.util.hash_array(values.to_numpy(object), categorize=False)
        numbers[numbers == BLANK] = 1
        yield rows, np.where(values == "", BLANK, numbers)


def repeated(values: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the values that occur at least twice, except `BLANK`.

    Returns:
        M rows, ascending, and M codes from 0, equal where the values are equal.
    """
    halves = values.view(np.uint32)[::2]  # sorting them takes half the memory
    rows = np.flatnonzero(among(halves, _twice(halves)) & (values != BLANK))
    again = _twice(values[rows])
    rows = rows[among(values[rows], again)]
    return rows, np.searchsorted(again, values[rows])


def _twice(values: NDArray[Any]) -> NDArray[Any]:
    """The values that occur at least twice, ascending and without repeats."""
    ordered = np.sort(values)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def among(values: NDArray[Any], known: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask (N,) of the values that are among the known ones; ``known`` must be ascending."""
    member = np.zeros(len(values), bool)
    if len(known):
        for start in range(0, len(values), PART):
            part = values[start : start + PART]
            place = np.searchsorted(known[:-1], part)
            member[start : start + PART] = known[place] == part
    return member


def linked_sets(items: Items) -> NDArray[np.int32]:
    """Number the sets of items linked by copies or groups, directly or through other items.

    A division of items (splits, folds of a cross-validation) must keep each set whole, or it leaks.
    The sets are the connected components of a graph whose edges join an item to its group, its
    content and its file. Only what stands there twice can join anything: the graph is made of
    groups and copies alone.

    Args:
        items: a manifest's items, N rows.

    Returns:
        N integers: for each item, the row of the first item of its set.
    """
    sets = _grouped(items)
    edges, first = [], 0
    for column in ("content", "sha256"):
        rows, codes = repeated(hashes(items, column))
        edges.append((sets[rows], codes + first))
        first += int(codes.max(initial=-1)) + 1
    known, joined = _joined(*(np.concatenate(ends) for ends in zip(*edges, strict=True)))
    for start in range(0, len(sets) if len(known) else 0, PART):
        part = sets[start : start + PART]
        place = np.searchsorted(known[:-1], part)
        sets[start : start + PART] = np.where(known[place] == part, joined[place], part)
    return sets


def _grouped(items: Items) -> NDArray[np.int32]:
    """Number the groups by their first row; an item without a group is a group of its own."""
    values = hashes(items, "group")
    rows = np.flatnonzero(values != BLANK)
    sets = np.arange(len(values), dtype=np.int32)
    codes, names = pd.factorize(values[rows])
    del values
    first = np.empty(len(names), np.int32)
    first[codes[::-1]] = rows[::-1]
    sets[rows] = first[codes]
    return sets


def _joined(
    groups: NDArray[np.integer], copies: NDArray[np.int64]
) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Join M groups to M copies: the groups, ascending, and the smallest group joined to each."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    known, place = np.unique(groups, return_inverse=True)
    n = len(known) + int(copies.max(initial=-1)) + 1
    edges = (np.ones(len(place), np.int8), (place, copies + len(known)))
    component = connected_components(coo_array(edges, shape=(n, n)), directed=False)[1]
    smallest = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(smallest, component[: len(known)], known)
    return known, smallest[component[: len(known)]]


def codes(values: pd.Series) -> NDArray[np.int64]:
    """Number the values (N); each empty value has a number of its own."""
    numbered, names = pd.factorize(values)
    blank = (values == "").to_numpy()
    numbered[blank] = len(names) + np.arange(blank.sum())
    return numbered.astype(np.int64)


def judged(items: Items, sides: pd.Series) -> dict[str, NDArray[np.int64]]:
    """Rows of the test and val items whose near-duplicates are searched.

    Args:
        items: N rows.
        sides: N, such as the ``split`` column.

    Returns:
        Rows by side, ascending: all of the side, or where there are more than `JUDGED`, those whose
        ids have the smallest hashes.
    """
    rows_by_side = {}
    for name in ("test", "val"):
        rows = np.flatnonzero(sides == name)
        if len(rows) > JUDGED:
            rows = np.sort(rows[np.argsort(hashes(items, "id")[rows])[:JUDGED]])
        rows_by_side[name] = rows
    return rows_by_side


def near_pairs(
    records: Records, items: Items, sides: pd.Series, *, modality: Modality, max_rms: float
) -> list[NearPair]:
    """Find items on different sides that are nearly the same, closest first.

    Items on the side ``excluded`` are left out. Exact copies never stand on two sides after
    `transfer.data.splits.split`, so a distance of 0 means items that became equal as records.
    Where there are more test or val items than `JUDGED`, only pairs with one of these items are
    found: the result for these items is exact, and the time grows only linearly with N.

    Args:
        records: N x ..., as stored.
        items: N rows, with ids.
        sides: N, such as the ``split`` column.
        modality: makes a fingerprint of each record.
        max_rms: largest root mean square difference between fingerprints, 0..1.

    Returns:
        All such pairs, or the first MAX_PAIRS in search order when there are more.

    Raises:
        SettingsError: max_rms is outside 0..1, or the lengths differ.
    """
    if not 0 <= max_rms <= 1 or not len(records) == len(items) == len(sides):
        raise SettingsError(
            f"max_rms is {max_rms}, with {len(records)} records, {len(items)} items and "
            f"{len(sides)} sides; expected max_rms in 0..1 and one item and side per record"
        )
    pair_rows = _PairRows([], [], [])
    for a, b, rms in _search(
        partial(_prints, records, modality), judged(items, sides), sides, max_rms
    ):
        pair_rows.a.extend(a.tolist())
        pair_rows.b.extend(b.tolist())
        pair_rows.rms.extend(rms.tolist())
        if len(pair_rows.a) >= MAX_PAIRS:
            break
    return pair_rows.named(items, sides)


@dataclass(frozen=True)
class _PairRows:
    a: list[int]  # rows
    b: list[int]
    rms: list[float]

    def named(self, items: Items, sides: pd.Series) -> list[NearPair]:
        rows = np.unique(np.array(self.a + self.b, np.int64))
        ids = chosen(items, rows, "id")["id"].to_dict()
        pairs = []
        for *both, rms in zip(self.a[:MAX_PAIRS], self.b, self.rms, strict=False):
            a, b = sorted(both, key=lambda row: str(sides.iloc[row]))
            pairs.append(NearPair(ids[a], ids[b], rms))
        return sorted(pairs, key=lambda pair: (pair.rms, pair.a, pair.b))


def _search(
    prints: Callable[[NDArray[np.int64]], np.ndarray],
    about: Mapping[str, NDArray[np.int64]],
    sides: pd.Series,
    max_rms: float,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield rows of searched items, rows of other items and their distances, each pair once."""
    known = {name: prints(rows) for name, rows in about.items() if len(rows)}
    for name in ("test", "train", "val"):
        rows = np.flatnonzero(sides == name)
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS]
            for other in sorted(known.keys() - {name}):
                new = block
                if name in about and name < other:  # met from the other side already
                    new = block[~among(block, about[name])]
                for i, j, rms in close(known[other], prints(new), max_rms):
                    yield about[other][i], new[j], rms


def _prints(records: Records, modality: Modality, rows: NDArray[np.int64]) -> np.ndarray:
    """Fingerprints (M, D) of M rows."""
    cut = [rows[start : start + _ROWS] for start in range(0, max(len(rows), 1), _ROWS)]
    parts = [modality.fingerprint(records[torch.from_numpy(part)].numpy()) for part in cut]
    return np.concatenate(parts)


def close(
    a: np.ndarray, b: np.ndarray, max_rms: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield rows of ``a``, rows of ``b`` and their distance, for the pairs within ``max_rms``.

    The product |x|^2 + |y|^2 - 2xy in float32 loses the digits of a small distance, so it only
    selects candidates, with a margin for its rounding error; float64 differences decide.
    """
    centre = a.mean(axis=0)
    x, y = a - centre, b - centre
    xx, yy = (np.einsum("nd,nd->n", z, z) for z in (x, y))
    margin = 1e-4 * max(xx.max(initial=0), yy.max(initial=0)) + 1e-9
    bound = max_rms**2 * a.shape[1] + margin
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
