"""Rows of concatenated tables are those of the tables in one array."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transfer.data.storage.row_index import Rows


@st.composite
def chosen(draw):
    """One or more tables of different values, some of them empty, and rows among all."""
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    tables = [100 * k + np.arange(size) for k, size in enumerate(sizes)]
    numbers = draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=12)) if sum(sizes) else []
    return tables, Rows(np.array(numbers, draw(st.sampled_from([np.int32, np.int64]))), sizes)


def read(tables, rows):
    values = np.full(len(rows), -1)
    for k, own, inside in rows.by_table():
        assert len(inside) == own.sum() > 0
        values[own] = tables[k][inside]
    return values.tolist()


@given(chosen(), st.data())
def test_they_are_read_as_from_one_array(selection, data):
    tables, rows = selection
    expected = np.concatenate(tables)[rows.numbers]
    assert read(tables, rows) == expected.tolist()
    marks = st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))
    kept = np.array(data.draw(marks), bool)
    for some in (kept, np.flatnonzero(kept)[::-1], slice(1, None, 2)):
        assert read(tables, rows[some]) == expected[some].tolist()
        assert len(rows[some]) == len(expected[some])


@given(st.lists(chosen(), min_size=1, max_size=4))
def test_joined_they_follow_one_another(several):
    tables = [table for tables, _ in several for table in tables]
    rows = Rows.joined([rows for _, rows in several])
    assert rows.sizes == tuple(map(len, tables))
    assert read(tables, rows) == [value for selection in several for value in read(*selection)]
