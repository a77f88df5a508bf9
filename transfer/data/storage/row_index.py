"""Rows chosen among several tables that stand one after the other."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Rows:
    """Row numbers (N) among tables of given sizes, in any order and as often as wanted."""

    def __init__(self, numbers: NDArray[np.integer], sizes: Sequence[int]) -> None:
        """Choose rows.

        Args:
            numbers: (N,) among the rows of all tables, one table after the other.
            sizes: number of rows of each table.
        """
        self.numbers, self.sizes = numbers, tuple(sizes)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: Any) -> "Rows":
        """Choose among them, as in an array: row numbers, N booleans or a slice."""
        return Rows(self.numbers[rows], self.sizes)

    def by_table(self) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.integer]]]:
        """Yield each table that has some of them.

        Yields:
            The table's place in ``sizes``, which of the rows are its own (N), and their numbers
            within it.
        """
        first = np.cumsum([0, *self.sizes])
        table = np.searchsorted(first, self.numbers, side="right") - 1
        for k in np.unique(table).tolist():
            own = table == k
            yield k, own, self.numbers[own] - first[k]

    @classmethod
    def joined(cls, several: Sequence["Rows"]) -> "Rows":
        """The rows of several, one after the other, among the tables of all."""
        ahead = itertools.accumulate((sum(one.sizes) for one in several), initial=0)
        moved = [one.numbers.astype(np.int64) + n for one, n in zip(several, ahead, strict=False)]
        return cls(np.concatenate(moved), [size for one in several for size in one.sizes])
