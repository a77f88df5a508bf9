"""Finished parts of a table on disk, and the single file into which they are merged."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from transfer.core.atomic_files import fsync

KEY = b"crosstrain.key"


def tables(out: Path) -> Iterator[pa.Table]:
    """The row groups of a file, one at a time.

    Raises:
        OSError: there is no such file, or its checksums do not match.
    """
    with parquet.ParquetFile(out, page_checksum_verification=True) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)


def holds(out: Path, key: str) -> bool:
    """Whether a file was published under a key and is undamaged."""
    try:
        metadata = parquet.read_schema(out).metadata or {}
        return metadata.get(KEY) == key.encode() and sum(t.num_rows for t in tables(out)) > 0
    except (OSError, pa.ArrowException):
        return False


@dataclass(frozen=True)
class Parts:
    """A folder of Parquet files, one per part; each is either complete or absent."""

    folder: Path

    def keep(self, key: str, table: pa.Table) -> None:
        """Write a part; it is on disk when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._atomic(self._file(key)) as unfinished:
            parquet.write_table(table, unfinished, write_page_checksum=True)

    def read(self, key: str) -> pa.Table | None:
        """Read a part; None where it was not written or its checksums do not match."""
        with suppress(OSError, pa.ArrowException):
            file = parquet.ParquetFile(self._file(key), page_checksum_verification=True)
            with file:
                return file.read()
        return None

    def publish(self, tables: Iterable[pa.Table], schema: pa.Schema, out: Path, key: str) -> None:
        """Write tables to one file, one row group each; the file is either complete or absent.

        The key identifies the content; `holds` compares it.
        """
        with_key = schema.with_metadata({KEY: key.encode()})
        with (
            self._atomic(out) as unfinished,
            parquet.ParquetWriter(unfinished, with_key, write_page_checksum=True) as writer,
        ):
            for table in tables:
                writer.write_table(table)

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"

    @contextmanager
    def _atomic(self, path: Path) -> Iterator[Path]:
        unfinished = self.folder / f"{os.getpid()}.tmp"
        yield unfinished
        fsync(unfinished)
        unfinished.replace(path)
        fsync(path.parent)
