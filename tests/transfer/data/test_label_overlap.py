import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.core.errors import DataRefusedError
from transfer.data.label_overlap import relate, row_map

names = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), unique=True, min_size=1)


@pytest.mark.parametrize(
    ("source", "target", "relation"),
    [
        (["a", "b"], ["b", "a"], "same"),
        (["a"], ["b", "a"], "subset"),
        (["c", "a", "b"], ["b", "a"], "superset"),
        (["a", "c"], ["b", "a"], "overlap"),
        (["c"], ["b", "a"], "disjoint"),
        (["Cat"], ["cat"], "disjoint"),
    ],
)
def test_relation_of_the_source_to_the_target(source, target, relation):
    assert relate(source, target).relation == relation


@given(names, names)
def test_every_class_stands_in_one_part_in_its_own_order(source, target):
    relation = relate(source, target)
    assert set(relation.shared) == set(source) & set(target)
    assert [x for x in target if x in relation.shared] == list(relation.shared)
    assert [x for x in source if x not in relation.shared] == list(relation.source_only)
    assert [x for x in target if x not in relation.shared] == list(relation.target_only)


@given(names, names)
def test_row_map_points_at_the_row_of_the_same_name(source, target):
    rows = row_map(source, target)
    assert len(rows) == len(target)
    for name, row in zip(target, rows, strict=True):
        assert (row is None and name not in source) or source[row] == name


def test_row_map_by_hand():
    assert row_map(["dog", "cat", "owl"], ["owl", "fox", "dog"]) == [2, None, 0]


@pytest.mark.parametrize(("source", "target"), [(["a", "a"], ["b"]), (["b"], ["a", "a"])])
def test_a_name_that_stands_twice_is_refused(source, target):
    with pytest.raises(DataRefusedError, match="'a' more than once"):
        relate(source, target)
