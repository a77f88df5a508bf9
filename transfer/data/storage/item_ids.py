"""Names of items and of their groups: few are kept in memory, many are read when asked for.

A name takes some hundred bytes in memory, and training needs none of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from transfer.data.storage.row_index import Rows
from transfer.data.storage.table import PART, Items, chosen, first_filled, parts

IN_MEMORY = 20_000
"""Names up to which those of a set of items are kept in memory."""


@dataclass(frozen=True)
class _Names:
    """The names of all items of a table."""

    items: Items
    columns: tuple[str, ...]  # the name is what stands in the first that is not empty
    prefix: str = ""

    def of(self, rows: NDArray[np.integer]) -> NDArray[np.object_]:
        known, place = np.unique(rows, return_inverse=True)
        return self._told(chosen(self.items, known, *self.columns))[place]

    def among(self, values: set[str]) -> NDArray[np.bool_]:
        found = [
            pd.Series(self._told(part)).isin(values).to_numpy()
            for _, part in parts(self.items, *self.columns)
        ]
        return np.concatenate(found)

    def _told(self, part: pd.DataFrame) -> NDArray[np.object_]:
        own = first_filled(part, *self.columns)
        return np.array([self.prefix + name for name in own], dtype=object)


class StoredKeys:
    """Names (N) on disk. As an array, they are those of `numpy.asarray`."""

    def __init__(self, tables: Sequence[_Names], rows: NDArray[np.integer]) -> None:
        """Choose names.

        Args:
            tables: of names.
            rows: (N,) among the rows of all tables, one table after the other.
        """
        self._tables = tuple(tables)
        self._rows = Rows(rows, [len(table.items) for table in tables])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> "StoredKeys":
        return StoredKeys(self._tables, self._rows.numbers[rows])

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), PART):
            yield from self._read(self._rows[start : start + PART])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.str_]:
        return np.array(self.tolist(), dtype=dtype or str)

    def tolist(self) -> list[str]:
        """All names, in memory."""
        return list(self._read(self._rows))

    def among(self, values: set[str]) -> NDArray[np.bool_]:
        """Say of each whether it is one of these."""
        return np.concatenate([table.among(values) for table in self._tables])[self._rows.numbers]

    def _read(self, rows: Rows) -> NDArray[np.object_]:
        found = np.empty(len(rows), dtype=object)
        for k, own, rows_within in rows.by_table():
            found[own] = self._tables[k].of(rows_within)
        return found

    def marked(self, prefix: str) -> "StoredKeys":
        """The same names after a prefix."""
        own = [_Names(one.items, one.columns, prefix + one.prefix) for one in self._tables]
        return StoredKeys(own, self._rows.numbers)

    @classmethod
    def joined(cls, several: Sequence["StoredKeys"]) -> "StoredKeys":
        """The names of several, one after the other."""
        tables = [table for one in several for table in one._tables]
        return cls(tables, Rows.joined([one._rows for one in several]).numbers)


Keys = NDArray[np.str_] | StoredKeys
"""Names (N)."""


def of_ids(items: Items, rows: NDArray[np.integer]) -> Keys:
    """The ids of some items."""
    return _kept(StoredKeys([_Names(items, ("id",))], rows))


def of_groups(items: Items, rows: NDArray[np.integer]) -> Keys:
    """What some items are grouped by: their group where they have one, else their content."""
    return _kept(StoredKeys([_Names(items, ("group", "content"))], rows))


def among(keys: Keys, values: Keys) -> NDArray[np.bool_]:
    """Say of each key (N) whether it is one of some values."""
    if not len(values):
        return np.zeros(len(keys), bool)
    if isinstance(keys, StoredKeys):
        return keys.among(set(values.tolist()))
    return np.isin(keys, np.asarray(values))


def union(several: Sequence[Keys]) -> Keys:
    """The keys of several datasets, made to differ from one dataset to the other."""
    marked = [_stored(keys).marked(f"{i}:") for i, keys in enumerate(several)]
    return _kept(StoredKeys.joined(marked))


def _stored(keys: Keys) -> StoredKeys:
    if isinstance(keys, StoredKeys):
        return keys
    return StoredKeys([_Names(pd.DataFrame({"id": keys}), ("id",))], np.arange(len(keys)))


def _kept(keys: StoredKeys) -> Keys:
    return np.asarray(keys) if len(keys) <= IN_MEMORY else keys
