"""Tables with one row per item, on disk: read by columns and in parts, and written in parts.

Columns of Python strings take hundreds of bytes per item, so no step holds a column of all items.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

PART = 2**16  # rows that are held in memory at a time


class StoredItems:
    """The items of a manifest on disk; columns are read when needed, whole or in parts."""

    def __init__(self, file: Path) -> None:
        """Open ``manifest.parquet``.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is not a Parquet file.
        """
        head = parquet.read_metadata(file)
        self.file, self._rows, self.columns = file, head.num_rows, head.schema.names

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, names: str | list[str]) -> Any:
        """Read one column as a series, or several columns as a table."""
        columns = [names] if isinstance(names, str) else names
        table = pd.read_parquet(self.file, columns=columns)
        return table[names]

    def parts(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Columns, `PART` rows or fewer at a time, in order; each table counts its rows from 0."""
        waiting: list[pa.RecordBatch] = []
        with parquet.ParquetFile(self.file, pre_buffer=False) as file:
            for batch in file.iter_batches(PART, columns=list(names), use_threads=False):
                waiting.append(batch)
                while sum(map(len, waiting)) >= PART:
                    table = pa.Table.from_batches(waiting)
                    yield table.slice(0, PART).to_pandas()
                    waiting = table.slice(PART).to_batches()
            if waiting or not len(self):
                schema = file.schema_arrow.empty_table().select(list(names)).schema
                yield pa.Table.from_batches(waiting, schema).to_pandas()


Items = pd.DataFrame | StoredItems
"""The rows of a manifest: columns as in `COLUMNS`."""


def parts(items: Items, *names: str) -> Iterator[tuple[slice, pd.DataFrame]]:
    """Columns of all items, `PART` rows at a time: the slice of rows, and a table with them."""
    tables = items.parts(names) if isinstance(items, StoredItems) else _cut(items, names)
    return map(_with_slice, itertools.count(0, PART), tables)


def _with_slice(start: int, part: pd.DataFrame) -> tuple[slice, pd.DataFrame]:
    return slice(start, start + len(part)), part


def _cut(items: pd.DataFrame, names: Sequence[str]) -> Iterator[pd.DataFrame]:
    for start in range(0, max(1, len(items)), PART):
        yield items[list(names)].iloc[start : start + PART].reset_index(drop=True)


def first_filled(items: pd.DataFrame, *names: str) -> pd.Series:
    """For each row (N), the value of the first of the columns that is not empty, else ''."""
    values: pd.Series = items[names[0]]
    for name in names[1:]:
        values = values.where(values != "", items[name])
    return values


def numbers(items: Items, name: str) -> NDArray[np.int32]:
    """A column of whole numbers (N), all below 2 ** 31."""
    values = np.empty(len(items), np.int32)
    for rows, part in parts(items, name):
        values[rows] = part[name]
    return values


def chosen(items: Items, rows: NDArray[np.integer], *names: str) -> pd.DataFrame:
    """Columns of some items, in ascending order of their rows; the table's index is the rows."""
    rows = np.sort(rows)
    return pd.concat([_within(part, where, rows) for where, part in parts(items, *names)])


def _within(part: pd.DataFrame, where: slice, rows: NDArray[np.integer]) -> pd.DataFrame:
    first, last = np.searchsorted(rows, (where.start, where.stop))
    return part.iloc[rows[first:last] - where.start].set_axis(rows[first:last])


class Writer:
    """Writes a table in parts, one row group each, with fixed columns and types."""

    def __init__(self, file: Path, kinds: Mapping[str, str]) -> None:
        """Create the file.

        Args:
            kinds: the pandas type of each column.
        """
        self._kinds = dict(kinds)
        self._schema = self._table(pd.DataFrame(columns=list(kinds))).schema
        self._writer = parquet.ParquetWriter(file, self._schema)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, part: pd.DataFrame) -> None:
        """Add rows."""
        self._writer.write_table(self._table(part))

    def _table(self, part: pd.DataFrame) -> pa.Table:
        typed = part[list(self._kinds)].astype(self._kinds)
        return pa.Table.from_pandas(typed, preserve_index=False)
