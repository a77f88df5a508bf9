"""Parts are there whole or not at all, and what was damaged is not used."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.death import die_at
from transfer.data.storage.parquet_parts import Parts, holds, tables

SCHEMA = pa.schema([("n", pa.int64())])


def rows(start, n=50):
    return pa.table({"n": list(range(start, start + n))}, schema=SCHEMA)


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path / ".out.parquet.parts")


def test_what_was_kept_is_read_again(parts):
    assert parts.read("a") is None
    parts.keep("a", rows(0))
    assert parts.read("a").equals(rows(0))


@pytest.mark.parametrize("at", [10, 60, -40, -3])
def test_a_damaged_part_counts_as_none(parts, at):
    parts.keep("a", rows(0))
    file = parts.folder / "a.parquet"
    content = bytearray(file.read_bytes())
    content[at] ^= 0xFF
    file.write_bytes(content)
    assert parts.read("a") is None or parts.read("a").equals(rows(0))
    file.write_bytes(bytes(content)[:-20])
    assert parts.read("a") is None


def test_tables_become_one_file_in_order(parts, tmp_path):
    parts.keep("a", rows(0))
    parts.publish((rows(i) for i in (50, 0)), SCHEMA, tmp_path / "out.parquet", "k")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table["n"].to_pylist() == [*range(50, 100), *range(50)]
    parts.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_killed_at_any_step_the_file_is_the_old_or_the_new_one(tmp_path):
    out, parts = tmp_path / "out.parquet", Parts(tmp_path / ".parts")
    parts.keep("a", rows(0))
    parts.publish([rows(0)], SCHEMA, out, "k")
    for step in range(20):
        status = die_at(step, lambda: parts.publish([rows(100), rows(200)], SCHEMA, out, "k"))
        numbers = parquet.read_table(out)["n"].to_pylist()
        assert numbers in ([*range(50)], [*range(100, 150), *range(200, 250)])
        if status == 0:
            assert step > 2
            return
        assert status == -9
        parts.publish([rows(0)], SCHEMA, out, "k")


def test_a_file_holds_what_it_was_published_as_until_it_is_damaged(parts, tmp_path):
    out = tmp_path / "out.parquet"
    assert not holds(out, "k")
    parts.keep("a", rows(0))
    parts.publish([rows(0), rows(50)], SCHEMA, out, "k")
    assert holds(out, "k")
    assert not holds(out, "other")
    assert [table["n"][0].as_py() for table in tables(out)] == [0, 50]
    content = bytearray(out.read_bytes())
    content[40] ^= 0xFF
    out.write_bytes(content)
    assert not holds(out, "k")
    parquet.write_table(rows(0), out)
    assert not holds(out, "k")
