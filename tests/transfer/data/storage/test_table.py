"""A table on disk is the table that was written, in whatever parts it is read."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.data.storage import table as stored
from transfer.data.storage.table import StoredItems, Writer, chosen, first_filled, numbers, parts

KINDS = {"id": "str", "label": "int64"}


def table(n):
    return pd.DataFrame({"id": [f"{i}" for i in range(n)], "label": range(n)}).astype(KINDS)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 9), max_size=6), st.integers(1, 12))
def test_parts_do_not_depend_on_how_it_was_written(tmp_path_factory, groups, size):
    whole, file = table(sum(groups)), tmp_path_factory.mktemp("table") / "x.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "PART", size)
        with Writer(file, KINDS) as writer:
            for start, n in zip(np.cumsum([0, *groups]), groups, strict=False):
                writer.write(whole.iloc[start : start + n])
        items = StoredItems(file)
        on_disk, in_memory = list(parts(items, "label", "id")), list(parts(whole, "label", "id"))
    assert len(items) == len(whole)
    assert [rows for rows, _ in on_disk] == [rows for rows, _ in in_memory]
    for (_, part), (_, other) in zip(on_disk, in_memory, strict=True):
        pd.testing.assert_frame_equal(part, other)
    pd.testing.assert_frame_equal(items[["id", "label"]], whole)


def test_some_rows_and_whole_columns_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "PART", 4)
    with Writer(tmp_path / "x.parquet", KINDS) as writer:
        writer.write(table(10).assign(more=1))
    items = StoredItems(tmp_path / "x.parquet")
    assert items.columns == ["id", "label"]
    assert numbers(items, "label").tolist() == list(range(10))
    rows = chosen(items, np.array([9, 3, 4]), "id")
    assert rows["id"].to_dict() == {3: "3", 4: "4", 9: "9"}
    assert len(chosen(items, np.array([], np.int64), "id")) == 0
    assert items["id"].tolist() == table(10)["id"].tolist()


def test_the_first_column_that_is_filled_is_returned():
    items = pd.DataFrame({"a": ["x", "", "", ""], "b": ["y", "y", "", ""], "c": [*"zzz", ""]})
    assert first_filled(items, "a", "b", "c").tolist() == ["x", "y", "z", ""]
    assert first_filled(items, "b").tolist() == ["y", "y", "", ""]
    assert items["a"].tolist() == ["x", "", "", ""]
