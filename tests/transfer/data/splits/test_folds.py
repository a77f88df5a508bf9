"""Folds are even, keep groups whole and do not depend on the order of the items."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.data.splits.folds import assign

ITEMS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), min_size=1, max_size=80)


def assign_folds(items, folds, seed):
    labels = np.array([label for label, _ in items], dtype=np.int64)
    return assign(labels, [f"g{group}" for _, group in items], folds, seed)


@given(ITEMS, st.integers(2, 6), st.integers(0, 99))
def test_a_group_is_never_divided(items, folds, seed):
    fold_of_item = assign_folds(items, folds, seed)
    assert fold_of_item.shape == (len(items),) and fold_of_item.dtype == np.int64
    assert ((fold_of_item >= 0) & (fold_of_item < folds)).all()
    for group in {group for _, group in items}:
        assert len({f for f, (_, g) in zip(fold_of_item, items, strict=True) if g == group}) == 1


@given(ITEMS, st.integers(2, 6), st.integers(0, 99), st.randoms(use_true_random=False))
def test_the_order_of_the_items_does_not_matter(items, folds, seed, rng):
    order = list(range(len(items)))
    rng.shuffle(order)
    fold_of_item = assign_folds(items, folds, seed)
    assert np.array_equal(assign_folds([items[i] for i in order], folds, seed), fold_of_item[order])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(2, 6), st.integers(0, 99))
def test_each_class_and_the_whole_are_spread_evenly(labels, folds, seed):
    fold_of_item = assign_folds([(label, i) for i, label in enumerate(labels)], folds, seed)
    for rows in [np.array(labels) == label for label in set(labels)] + [np.ones(len(labels), bool)]:
        counts = np.bincount(fold_of_item[rows], minlength=folds)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_fold_has_every_class_when_there_are_as_many_items_as_folds(folds):
    labels = np.repeat(np.arange(4), folds)
    fold_of_item = assign(labels, [f"{i}" for i in range(len(labels))], folds, 1)
    for fold in range(folds):
        assert set(labels[fold_of_item != fold]) == set(range(4))
        assert set(labels[fold_of_item == fold]) == set(range(4))


def test_another_seed_is_another_assignment():
    items = [(i % 3, i) for i in range(60)]
    first, second = assign_folds(items, 3, 0), assign_folds(items, 3, 3)
    differs = (first[:, None] == first) != (second[:, None] == second)
    assert differs.any()


def test_an_assignment_is_the_same_on_every_machine():
    items = [(i % 2, i) for i in range(8)]
    assert assign_folds(items, 3, 0).tolist() == [1, 0, 0, 1, 0, 1, 2, 2]
