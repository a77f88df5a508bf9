"""Names of items and of their groups: small sets are in memory, large sets are read when needed.

A name takes about a hundred bytes in memory, and training does not need names.
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
"""Largest number of names of a set of items that are kept in memory."""


@dataclass(frozen=True)
class _Names:
    """The names of all items of a table."""

    items: Items
    columns: tuple[str, ...]  # the name is the value of the first column that is not empty
    prefix: str = ""

    def of(self, rows: NDArray[np.integer]) -> NDArray[np.object_]:
        distinct, inverse = np.unique(rows, return_inverse=True)
        return self._names_in(chosen(self.items, distinct, *self.columns))[inverse]

    def among(self, values: set[str]) -> NDArray[np.bool_]:
        masks = [
            pd.Series(self._names_in(part)).isin(values).to_numpy()
            for _, part in parts(self.items, *self.columns)
        ]
        return np.concatenate(masks)

    def _names_in(self, part: pd.DataFrame) -> NDArray[np.object_]:
        names = first_filled(part, *self.columns)
        return np.array([self.prefix + name for name in names], dtype=object)


class StoredKeys:
    """Names (N) on disk; `numpy.asarray` reads them into memory."""

    def __init__(self, tables: Sequence[_Names], rows: NDArray[np.integer]) -> None:
        """Select names.

        Args:
            tables: tables of names.
            rows: (N,) row numbers in the concatenation of all tables.
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
        """Whether each name is one of ``values`` (N)."""
        return np.concatenate([table.among(values) for table in self._tables])[self._rows.numbers]

    def _read(self, rows: Rows) -> NDArray[np.object_]:
        names = np.empty(len(rows), dtype=object)
        for k, in_table, rows_within in rows.by_table():
            names[in_table] = self._tables[k].of(rows_within)
        return names

    def marked(self, prefix: str) -> "StoredKeys":
        """The same names with a prefix."""
        tables = [_Names(t.items, t.columns, prefix + t.prefix) for t in self._tables]
        return StoredKeys(tables, self._rows.numbers)

    @classmethod
    def joined(cls, several: Sequence["StoredKeys"]) -> "StoredKeys":
        """Concatenate the names of several sets."""
        tables = [table for keys in several for table in keys._tables]
        return cls(tables, Rows.joined([keys._rows for keys in several]).numbers)


Keys = NDArray[np.str_] | StoredKeys
"""Names (N)."""


def of_ids(items: Items, rows: NDArray[np.integer]) -> Keys:
    """The ids of some items."""
    return _in_memory_if_few(StoredKeys([_Names(items, ("id",))], rows))


def of_groups(items: Items, rows: NDArray[np.integer]) -> Keys:
    """The group names of some items; an item without a group has the hash of its content."""
    return _in_memory_if_few(StoredKeys([_Names(items, ("group", "content"))], rows))


def among(keys: Keys, values: Keys) -> NDArray[np.bool_]:
    """Whether each key is one of ``values`` (N)."""
    if not len(values):
        return np.zeros(len(keys), bool)
    if isinstance(keys, StoredKeys):
        return keys.among(set(values.tolist()))
    return np.isin(keys, np.asarray(values))


def union(several: Sequence[Keys]) -> Keys:
    """The keys of several datasets, with a prefix per dataset so that they stay distinct."""
    marked = [_as_stored(keys).marked(f"{i}:") for i, keys in enumerate(several)]
    return _in_memory_if_few(StoredKeys.joined(marked))


def _as_stored(keys: Keys) -> StoredKeys:
    if isinstance(keys, StoredKeys):
        return keys
    return StoredKeys([_Names(pd.DataFrame({"id": keys}), ("id",))], np.arange(len(keys)))


def _in_memory_if_few(keys: StoredKeys) -> Keys:
    return np.asarray(keys) if len(keys) <= IN_MEMORY else keys
