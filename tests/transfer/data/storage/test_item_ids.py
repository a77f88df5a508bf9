"""Names on disk are those that would be in memory."""

import numpy as np
import pandas as pd
import pytest

from transfer.data.storage import item_ids
from transfer.data.storage.item_ids import StoredKeys
from transfer.data.storage.table import StoredItems


@pytest.fixture
def items(tmp_path):
    """Ten items, two of them in a group."""
    told = {
        "id": [f"é/{i}" for i in range(10)],
        "group": ["", "g"] + [""] * 7 + ["g"],
        "content": [f"p{i}" for i in range(10)],
    }
    pd.DataFrame(told, dtype="str").to_parquet(tmp_path / "items.parquet")
    return StoredItems(tmp_path / "items.parquet")


@pytest.fixture(params=[0, 100], ids=["on disk", "in memory"])
def limit(request, monkeypatch):
    monkeypatch.setattr(item_ids, "IN_MEMORY", request.param)
    return request.param


ROWS = np.array([9, 0, 3, 3])


def test_they_are_read_in_the_order_of_the_rows(items, limit):
    ids, groups = item_ids.of_ids(items, ROWS), item_ids.of_groups(items, ROWS)
    assert isinstance(ids, StoredKeys) == (limit == 0)
    assert ids.tolist() == list(ids) == ["é/9", "é/0", "é/3", "é/3"]
    assert groups.tolist() == ["g", "p0", "p3", "p3"]
    assert np.asarray(groups).dtype.kind == "U"
    assert len(ids) == 4
    assert ids[np.array([True, False, True, False])].tolist() == ["é/9", "é/3"]
    assert np.unique(groups).tolist() == ["g", "p0", "p3"]


def test_membership_is_that_of_numpy(items, limit):
    groups = item_ids.of_groups(items, np.arange(10))
    for values in (groups[np.array([1])], np.array(["p3", "x"]), groups[np.zeros(10, bool)]):
        expected = np.isin(np.asarray(groups), np.asarray(values))
        assert item_ids.among(groups, values).tolist() == expected.tolist()


def test_datasets_stay_apart_in_a_union(items, limit):
    ids = item_ids.of_ids(items, ROWS)
    found = item_ids.union([ids, np.array(["x", "é/9"]), ids[np.arange(1)]])
    assert found.tolist() == ["0:é/9", "0:é/0", "0:é/3", "0:é/3", "1:x", "1:é/9", "2:é/9"]
    assert found[np.array([5, 0])].tolist() == ["1:é/9", "0:é/9"]
    assert (
        item_ids.among(found, np.array(["1:x", "x"])).tolist() == [False] * 4 + [True] + [False] * 2
    )
    assert item_ids.union([found, found]).tolist()[-1] == "1:2:é/9"
