"""Who may see which items, measured on real scans and splits."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as drawn

from tests.transfer import tiny
from transfer.core.errors import DataRefusedError
from transfer.data import items as arrays
from transfer.data import scan
from transfer.data.items import PoolItems, SourceItems, TestItems, TrainItems, normalisation, union
from transfer.data.manifest import COLUMNS, Manifest
from transfer.data.splits import split
from transfer.data.splits.split import SplitSettings
from transfer.modalities.image.spec import ImageLimits, ImageSpec

SPLITS = ["train"] * 14 + ["val"] * 4 + ["test"] * 6


def stored(folder, images, labels, groups=None, splits=SPLITS, cap=None, merge_val=False):
    """Scan an .npz of these items and split it; return the two folders."""
    grouping = {"groups": groups} if groups else {}
    np.savez(
        folder / "hedge.npz",
        images=images,
        labels=labels,
        class_names=np.array(tiny.CLASSES),
        split=np.array(splits),
        **grouping,
    )
    scanned, divided = folder / "scan", folder / "split"
    scanned.mkdir()
    divided.mkdir()
    spec = ImageSpec(size=tiny.SIDE, channels=1)
    manifest = scan.scan(
        folder / "hedge.npz", scanned, name="hedge", spec=spec, limits=ImageLimits()
    )
    frame = split.split(manifest, SplitSettings(), labels_per_class=cap, merge_val=merge_val)
    split.save(divided, manifest, frame, [])
    return scanned, divided


@pytest.fixture
def hedge(tmp_path):
    images, labels = tiny.pictures(24)
    return images, labels, *stored(tmp_path, images[:, 0], labels)


def rows(items):
    return [int(name.split("#")[1]) for name in items.ids]


def test_every_item_is_where_its_split_says(hedge):
    images, labels, scanned, divided = hedge
    splits = {
        "train": arrays.labelled_items(scanned, divided),
        "val": arrays.validation_items(scanned, divided),
        "test": arrays.test_items(scanned, divided),
    }
    for name, items in splits.items():
        expected = [i for i, side in enumerate(SPLITS) if side == name]
        assert rows(items) == expected
        assert np.array_equal(items.records.numpy(), images[expected])
        assert np.array_equal(items.labels.numpy(), labels[expected])
        assert items.labels.dtype == torch.int64 and items.records.dtype == torch.uint8
        assert items.ids.dtype.kind == "U"


def test_test_items_are_of_another_type_than_those_to_learn_from(hedge):
    *_, scanned, divided = hedge
    assert isinstance(arrays.test_items(scanned, divided), TestItems)
    assert not isinstance(arrays.test_items(scanned, divided), TrainItems)
    assert isinstance(arrays.validation_items(scanned, divided), TrainItems)


def test_a_cap_and_cross_validation_decide_what_is_labelled(tmp_path):
    images, labels = tiny.pictures(24)
    folders = stored(tmp_path, images[:, 0], labels, cap=2, merge_val=True)
    labelled = arrays.labelled_items(*folders)
    assert np.bincount(labelled.labels.numpy()).tolist() == [2, 2, 2]
    assert set(rows(labelled)) <= set(range(18))


def test_a_fold_cannot_part_groups_and_copies_even_in_a_chain(tmp_path):
    """0 and 1 share a group; 2 is a copy of 1; 3 is in the group of 2; 9 has neither."""
    images, labels = tiny.pictures(24)
    images[2] = images[1]
    groups = [""] * 24
    groups[0] = groups[1] = "pot"
    groups[2] = groups[3] = "bed"
    items = arrays.labelled_items(*stored(tmp_path, images[:, 0], labels, groups))
    assert len(set(items.groups[:4])) == 1
    assert len(set(items.groups[3:])) == len(items) - 3


def test_a_picture_without_copies_keeps_its_key_when_data_are_added(tmp_path):
    images, labels = tiny.pictures(30)
    keys = []
    for n, name in ((24, "before"), (30, "after")):
        (tmp_path / name).mkdir()
        splits = SPLITS + ["train"] * (n - 24)
        folders = stored(tmp_path / name, images[:n, 0], labels[:n], splits=splits)
        items = arrays.labelled_items(*folders)
        keys.append(dict(zip(items.ids, items.groups, strict=True)))
    assert keys[0].items() <= keys[1].items()


def test_a_split_of_another_scan_is_refused(hedge, tmp_path):
    *_, scanned, divided = hedge
    manifest = Manifest.load(scanned)
    items = manifest.items[[*COLUMNS]].iloc[::-1].reset_index(drop=True)
    frame = split.load(divided, manifest).iloc[::-1].reset_index(drop=True)
    split.save(divided, replace(manifest, items=items), frame, [])
    readers = (arrays.labelled_items, arrays.validation_items, arrays.test_items, pool)
    for read in readers:
        with pytest.raises(DataRefusedError, match="split the dataset again"):
            read(scanned, divided)


# the pool


def pool(scanned, divided, with_val=False):
    return arrays.pool_items(scanned, divided, with_val=with_val)


def sides(*names):
    return [i for i, side in enumerate(SPLITS) if side in names]


def test_a_pool_has_the_images_of_the_training_split_and_no_label(hedge):
    images, _, scanned, divided = hedge
    unlabelled = pool(scanned, divided)
    assert rows(unlabelled) == sides("train")
    assert np.array_equal(unlabelled.records.numpy(), images[sides("train")])
    assert {field.name for field in fields(unlabelled)} == {"records", "ids", "groups"}
    assert not isinstance(unlabelled, TrainItems) and not hasattr(unlabelled, "labels")


def test_a_pool_may_take_validation_images_and_never_one_of_the_test_split(hedge):
    images, _, scanned, divided = hedge
    unlabelled = pool(scanned, divided, with_val=True)
    assert rows(unlabelled) == sides("train", "val")
    assert np.array_equal(unlabelled.records.numpy(), images[sides("train", "val")])
    tested = set(arrays.test_items(scanned, divided).ids)
    assert tested and not tested & set(unlabelled.ids)


def test_a_pool_has_the_images_beyond_the_cap_too_and_the_groups_of_the_labelled_ones(tmp_path):
    images, labels = tiny.pictures(24)
    folders = stored(tmp_path, images[:, 0], labels, cap=2, merge_val=True)
    unlabelled, labelled = pool(*folders, with_val=True), arrays.labelled_items(*folders)
    assert len(unlabelled) == 18 > len(labelled) == 6
    groups = dict(zip(unlabelled.ids, unlabelled.groups, strict=True))
    assert [groups[name] for name in labelled.ids] == labelled.groups.tolist()


@pytest.mark.parametrize("make", [lambda items: items, tiny.pool_of], ids=["labelled", "pool"])
def test_items_without_some_groups_are_all_others_in_their_order(make):
    items = make(tiny.items(6, groups=list("aabbca")))
    kept = items.without(np.array(["a", "z"]))
    assert type(kept) is type(items)
    assert kept.groups.tolist() == ["b", "b", "c"]
    assert kept.ids.tolist() == items.ids[[2, 3, 4]].tolist()
    assert torch.equal(kept.records, items.records[[2, 3, 4]])
    if isinstance(items, TrainItems):
        assert torch.equal(kept.labels, items.labels[[2, 3, 4]])
    assert len(items.without(np.array(list("abc")))) == 0
    assert items.without(np.array([], dtype=str)).ids.tolist() == items.ids.tolist()


def test_a_pool_can_be_measured():
    items = tiny.items(12)
    assert normalisation(tiny.pool_of(items), tiny.spec_of(items)) == normalisation(
        items, tiny.spec_of(items)
    )
    assert isinstance(tiny.pool_of(items), PoolItems)


# several datasets as one


def trees(names, seed, n=6):
    """Items of a dataset with these classes."""
    return SourceItems.of(tiny.items(n, len(names), seed=seed), names, tiny.spec())


def names_of(source):
    """Name of the class of each item."""
    return [source.class_names[k] for k in source.items.labels.tolist()]


def test_classes_of_one_name_are_one_class_in_whatever_order():
    first, second = trees(("acer", "betula"), 1), trees(("corylus", "betula", "fagus"), 2)
    joined = union([first, second], tiny.spec())
    assert joined.class_names == ("acer", "betula", "corylus", "fagus")
    assert names_of(joined) == names_of(first) + names_of(second)
    assert torch.equal(joined.items.records, torch.cat([first.items.records, second.items.records]))
    assert joined.items.labels.dtype == torch.int64


def test_a_union_has_the_statistics_of_all_its_images():
    parts = [trees(("acer", "betula"), 1, 6), trees(("acer", "betula"), 2, 20)]
    parts[1] = replace(parts[1], items=replace(parts[1].items, records=parts[1].items.records // 3))
    pixels = np.concatenate([part.items.records.numpy() for part in parts]) / 255
    normal = union(parts, tiny.spec()).normal
    np.testing.assert_allclose(normal.mean, pixels.mean((0, 2, 3)))
    np.testing.assert_allclose(normal.std, pixels.std((0, 2, 3)))


def test_items_of_the_same_key_in_two_datasets_stay_two_and_their_groups_apart():
    part = SourceItems.of(tiny.items(4, 2, groups=list("aabb")), ("acer", "betula"), tiny.spec())
    items = union([part, part], tiny.spec()).items
    assert len(set(items.ids.tolist())) == 8
    assert len(set(items.groups.tolist())) == 4
    assert items.groups[0] == items.groups[1] != items.groups[4] == items.groups[5]


def test_a_union_of_one_is_that_one():
    part = trees(("acer", "betula"), 1)
    assert union([part], tiny.spec()) is part


@settings(max_examples=30)
@given(
    st.lists(
        st.permutations(tiny.CLASSES).flatmap(
            lambda names: st.integers(1, 3).map(lambda k: tuple(names[:k]))
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_label_changes_its_name_in_a_union(drawn_names):
    parts = [trees(names, seed, n=3) for seed, names in enumerate(drawn_names)]
    joined = union(parts, tiny.spec())
    assert names_of(joined) == [name for part in parts for name in names_of(part)]
    assert sorted(joined.class_names) == sorted({n for names in drawn_names for n in names})


def test_taking_items_keeps_their_parts_together():
    items = tiny.items(6, groups=list("aabbcc"))
    kept = items.take(np.array([True, False, True, False, False, True]))
    assert len(kept) == 3
    assert torch.equal(kept.records, items.records[[0, 2, 5]])
    assert torch.equal(kept.labels, items.labels[[0, 2, 5]])
    assert kept.ids.tolist() == items.ids[[0, 2, 5]].tolist()
    assert kept.groups.tolist() == ["a", "b", "c"]
    assert len(items.take(np.zeros(6, bool))) == 0


SIDES = st.integers(1, 6)


@settings(max_examples=40)
@given(drawn(np.uint8, st.tuples(st.integers(1, 5), st.sampled_from((1, 3)), SIDES, SIDES)))
def test_statistics_are_those_of_numpy(images):
    n = len(images)
    ids = np.arange(n).astype(str)
    items = TrainItems(torch.from_numpy(images), torch.zeros(n, dtype=torch.long), ids, ids)
    normal = normalisation(items, tiny.spec_of(items))
    scaled = images.astype(np.float64) / 255
    np.testing.assert_allclose(normal.mean, scaled.mean((0, 2, 3)), atol=1e-12)
    expected = np.maximum(scaled.std((0, 2, 3)), 1 / 255)
    np.testing.assert_allclose(normal.std, expected, atol=1e-9)


def test_standardised_training_items_have_mean_0_and_standard_deviation_1():
    items = tiny.items(channels=3)
    standardised = normalisation(items, tiny.spec_of(items)).apply(items.records.double().div(255))
    np.testing.assert_allclose(standardised.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(standardised.std((0, 2, 3), correction=0), 1, atol=1e-6)
