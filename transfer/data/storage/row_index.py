"""Rows selected from several concatenated tables."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Rows:
    """Row numbers (N) in concatenated tables of given sizes, in any order; rows may repeat."""

    def __init__(self, numbers: NDArray[np.integer], sizes: Sequence[int]) -> None:
        """Select rows.

        Args:
            numbers: (N,) row numbers in the concatenation of all tables.
            sizes: number of rows of each table.
        """
        self.numbers, self.sizes = numbers, tuple(sizes)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: Any) -> "Rows":
        """Select some of these rows, as in an array: row numbers, N booleans or a slice."""
        return Rows(self.numbers[rows], self.sizes)

    def by_table(self) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.integer]]]:
        """Yield each table that contains some of the rows.

        Yields:
            The table's index in ``sizes``, a mask of the rows that are in this table (N), and their
            numbers within it.
        """
        first = np.cumsum([0, *self.sizes])
        table = np.searchsorted(first, self.numbers, side="right") - 1
        for k in np.unique(table).tolist():
            own = table == k
            yield k, own, self.numbers[own] - first[k]

    @classmethod
    def joined(cls, several: Sequence["Rows"]) -> "Rows":
        """Concatenate several selections; their tables are concatenated too."""
        offsets = itertools.accumulate((sum(rows.sizes) for rows in several), initial=0)
        shifted = [
            rows.numbers.astype(np.int64) + offset
            for rows, offset in zip(several, offsets, strict=False)
        ]
        return cls(np.concatenate(shifted), [size for rows in several for size in rows.sizes])
