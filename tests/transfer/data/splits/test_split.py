import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binomtest

from transfer.core.errors import DataRefusedError, SettingsError
from transfer.data.manifest import COLUMNS, Manifest
from transfer.data.splits.assignment import fraction, keys, side
from transfer.data.splits.duplicates import NearPair, linked_sets
from transfer.data.splits.split import SplitSettings, check_coverage, leave_out, load, save, split

RANK = {"train": 0, "val": 1, "test": 2}


def manifest(rows, classes=3):
    """A manifest of rows (id, label, pixels, differences from a plain ungrouped PNG)."""
    plain = {"group": "", "given_split": "", "mode": "RGB", "format": "PNG"}
    plain |= {"width": 8, "height": 8, "mean": 100.0, "std": 10.0}
    full = [
        {**plain, "id": i, "label": label, "content": pixels, "sha256": f"bytes of {i}", **other}
        for i, label, pixels, other in rows
    ]
    items = pd.DataFrame(full, columns=list(COLUMNS)).astype(COLUMNS)
    return Manifest("toys", "image", tuple("abcdefgh"[:classes]), items)


def many(n, classes=3):
    return manifest([(f"{i:05}", i % classes, f"picture {i}", {}) for i in range(n)], classes)


def divide(data, *, seed=0, val=0.2, test=0.4, cap=None, merge_val=False):
    choice = SplitSettings(seed=seed, val=val, test=test)
    frame = split(data, choice, labels_per_class=cap, merge_val=merge_val)
    return frame.assign(id=data.items["id"])


word = st.sampled_from(list("pqrstuvw"))
row = st.tuples(
    st.integers(0, 2),
    word,
    st.fixed_dictionaries(
        {},
        optional={
            "group": st.sampled_from(["", "p", "first", "second", "third"]),
            "given_split": st.sampled_from(["", "train", "val", "test"]),
            "sha256": st.sampled_from(["", "x", "y", "z"]),
        },
    ),
)
datasets = st.lists(row, max_size=25).map(
    lambda rows: manifest([(f"{i:03}", *values) for i, values in enumerate(rows)])
)
seeds = st.integers(0, 99)


def linked(x, y):
    return x.content == y.content or x.sha256 == y.sha256 != "" or x.group == y.group != ""


@settings(deadline=None, max_examples=60)
@given(datasets, seeds, st.data())
def test_growing_the_data_never_moves_an_item_to_another_side(data, seed, draw):
    n = len(data)
    chosen_rows = np.array(draw.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    part = Manifest(
        "toys", "image", data.class_names, data.items[chosen_rows].reset_index(drop=True)
    )
    before = divide(part, seed=seed).set_index("id")["split"]
    after = divide(data, seed=seed).set_index("id")["split"][before.index]
    moved = before != after
    assert (after[moved] == "excluded").all()
    assert (before[moved] != "test").all()


@settings(deadline=None, max_examples=60)
@given(datasets, seeds)
def test_copies_and_groups_are_never_on_two_sides(data, seed):
    frame = divide(data, seed=seed)
    items = data.items.assign(split=frame["split"])
    live = list(items[items["split"] != "excluded"].itertuples())
    for x, y in itertools.combinations(live, 2):
        assert not linked(x, y) or x.split == y.split


@settings(deadline=None, max_examples=60)
@given(datasets, seeds)
def test_only_items_linked_to_a_higher_side_are_excluded(data, seed):
    frame = divide(data, seed=seed)
    rows = list(data.items.itertuples())
    alone = [
        r.given_split or side(fraction(seed, k), 0.2, 0.4)
        for r, k in zip(rows, keys(data.items), strict=True)
    ]
    reach = [{i} for i in range(len(rows))]
    for _ in rows:
        reach = [set().union(*(reach[j] for j, y in enumerate(rows) if linked(x, y))) for x in rows]
    for i, now in enumerate(frame.itertuples()):
        best = max((alone[j] for j in reach[i]), key=RANK.get)
        assert now.split == (alone[i] if best == alone[i] else "excluded")
        assert (now.reason == "") == (now.split != "excluded")
        assert now.reason == "" or f"_{best}" in now.reason


def test_same_seed_same_result_and_other_seeds_differ():
    data = many(300)
    assert divide(data, seed=5, cap=9).equals(divide(data, seed=5, cap=9))
    assert not divide(data, seed=5)["split"].equals(divide(data, seed=6)["split"])
    chosen = [divide(data, seed=s, test=0, val=0, cap=9)["labelled"] for s in (5, 6)]
    assert not chosen[0].equals(chosen[1])


def test_a_split_stays_what_it_was_in_the_first_release():
    """A changed hash would move the test items of every dataset there is."""
    assert [round(fraction(0, key), 6) for key in ("a", "group:ä")] == [0.741719, 0.243388]
    assert 0 <= fraction(-3, "") < 1


def test_shares_are_those_of_the_settings():
    splits = divide(many(20_000), val=0.1, test=0.4)["split"]
    for name, share in (("train", 0.5), ("val", 0.1), ("test", 0.4)):
        assert binomtest(int((splits == name).sum()), 20_000, share).pvalue > 1e-4


def test_fractions_are_uniform_and_independent_of_the_seed():
    u = np.array([[fraction(s, f"k{i}") for s in (0, 1)] for i in range(5000)])
    assert ((u >= 0) & (u < 1)).all()
    for column in u.T:
        counts = np.histogram(column, 10, (0, 1))[0]
        assert np.square(counts - 500).sum() / 500 < 33.7  # chi-squared, 9 degrees, p = 1e-4
    assert abs(np.corrcoef(u.T)[0, 1]) < 4 / np.sqrt(5000)


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 0.4), st.floats(0, 0.5), st.floats(0, 0.4))
def test_changing_val_leaves_the_test_items(u, val, test, other_val):
    assert (side(u, val, test) == "test") == (u < test) == (side(u, other_val, test) == "test")


def test_a_given_split_is_honoured():
    asked = [("train", "val", "test")[i % 3] for i in range(60)]
    data = manifest([(f"{i:02}", 0, f"p{i}", {"given_split": s}) for i, s in enumerate(asked)])
    assert divide(data)["split"].tolist() == asked


def test_an_unknown_given_split_is_refused():
    data = manifest([("x", 0, "p", {"given_split": "dev"})])
    with pytest.raises(DataRefusedError, match="'dev'; expected train, val, test"):
        divide(data)


def test_a_group_cannot_collide_with_a_content_hash():
    data = manifest([("x", 0, "p", {}), ("y", 0, "q", {"group": "p"})])
    assert len(set(keys(data.items))) == 2


def test_each_reason_of_exclusion():
    def at(given, **other):
        return {"given_split": given, **other}

    data = manifest(
        [
            ("1", 0, "p", at("test")),
            ("2", 0, "p", at("train", group="g")),  # the content of 1
            ("3", 0, "q", at("train", group="g")),  # its group has a copy in test
            ("4", 0, "r", at("train", group="h")),
            ("5", 0, "s", at("val", group="h")),
            ("6", 0, "t", at("train", sha256="same")),
            ("7", 0, "u", at("val", sha256="same")),
            ("8", 0, "v", at("train", sha256="npz", format="array")),
            ("9", 0, "w", at("test", sha256="npz", format="array")),
        ]
    )
    frame = divide(data)
    assert dict(zip(frame["id"], frame["reason"], strict=True)) == {
        "1": "",
        "2": "copy_of_test_item",
        "3": "linked_to_test",
        "4": "group_in_val",
        "5": "",
        "6": "copy_of_val_item",
        "7": "",
        "8": "",  # rows of one array file are not copies
        "9": "",
    }
    assert frame.loc[frame["reason"] != "", "split"].eq("excluded").all()


@settings(deadline=None, max_examples=60)
@given(datasets, seeds, st.integers(1, 4), st.booleans())
def test_the_cap_is_exact_and_free_of_copies(data, seed, cap, merge_val):
    frame = divide(data, seed=seed, cap=cap, merge_val=merge_val)
    every = divide(data, seed=seed, merge_val=merge_val)
    chosen = data.items[frame["labelled"]]
    assert chosen["content"].is_unique
    assert chosen.loc[chosen["sha256"] != "", "sha256"].is_unique
    assert every["labelled"][frame["labelled"]].all()
    assert (chosen.groupby("label").size() <= cap).all()


@settings(deadline=None, max_examples=60)
@given(datasets, seeds, st.integers(0, 3))
def test_the_cap_chooses_the_same_items_as_a_search_of_all(data, seed, cap):
    pool = divide(data, seed=seed)["labelled"].to_numpy()
    items = data.items.assign(set=linked_sets(data.items))[pool]
    items["file"] = items["sha256"].where(items["sha256"] != "", items["id"])
    items["u"] = [fraction(seed, f"label:{pixels}") for pixels in items["content"]]
    items = items.sort_values(["u", "id"]).drop_duplicates("content").drop_duplicates("file")
    items["turn"] = items.groupby(["label", "set"]).cumcount()
    expected = items.sort_values(["turn", "u", "id"]).groupby("label").head(cap)["id"]
    frame = divide(data, seed=seed, cap=cap)
    assert set(frame["id"][frame["labelled"]]) == set(expected)


@given(seeds, st.integers(1, 30), st.booleans())
@settings(deadline=None, max_examples=20)
def test_the_cap_takes_all_items_where_there_are_fewer(seed, cap, merge_val):
    data = many(60)
    frame = divide(data, seed=seed, cap=cap, merge_val=merge_val)
    trainable = frame["split"].isin(["train", "val"] if merge_val else ["train"])
    there = trainable.groupby(data.items["label"]).sum().clip(upper=cap)
    assert frame["labelled"].groupby(data.items["label"]).sum().equals(there)


def test_the_cap_counts_a_file_once():
    rows = [(f"{i}", i % 2, f"p{i}", {"sha256": "same", "given_split": "train"}) for i in range(4)]
    assert divide(manifest(rows), cap=3)["labelled"].sum() == 1


def test_the_cap_takes_one_of_each_group_before_a_second():
    rows = [(f"{i:02}", 0, f"p{i}", {"group": f"g{i % 4}" if i < 20 else ""}) for i in range(23)]
    data = manifest(rows)
    for cap in (3, 7, 9):
        labelled = divide(data, val=0, test=0, cap=cap)["labelled"]
        chosen = data.items["group"].where(data.items["group"] != "", data.items["id"])[labelled]
        assert len(chosen) == cap
        assert chosen.nunique() == min(cap, 7)


def test_a_smaller_cap_chooses_among_the_same_items():
    data = many(200)
    few, more = (divide(data, cap=cap)["labelled"] for cap in (4, 9))
    assert more[few].all()


def test_labelled_follows_merge_val():
    data = many(100)
    alone, merged = divide(data), divide(data, merge_val=True)
    assert alone["labelled"].equals(alone["split"] == "train")
    assert merged["labelled"].equals(merged["split"].isin(["train", "val"]))
    assert merged["split"].equals(alone["split"])


@pytest.mark.parametrize("wrong", [{"val": 0.8}, {"test": 1.0}, {"val": -0.1}, {"tset": 0.1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        SplitSettings(**wrong)


def test_every_setting_is_described():
    assert all(field.description for field in SplitSettings.model_fields.values())


def test_a_cap_below_0_is_refused():
    with pytest.raises(SettingsError, match="labels_per_class is -1"):
        divide(many(3), cap=-1)


def test_a_cap_of_0_labels_nothing_and_moves_nothing():
    without, capped = divide(many(60), cap=0), divide(many(60), cap=2)
    assert not without["labelled"].any() and capped["labelled"].any()
    assert list(without["split"]) == list(capped["split"])


def test_leave_out_excludes_items_equal_to_held_out_target_items():
    given = {"1": "test", "2": "val", "3": "train", "4": "train", "5": "test"}
    target = manifest([(i, 0, f"t{i}", {"given_split": s}) for i, s in given.items()])
    source = manifest(
        [
            ("a", 1, "t1", {}),
            ("b", 1, "t2", {"given_split": "test"}),
            ("c", 1, "t3", {}),
            ("d", 1, "other", {"sha256": "bytes of 5"}),
            ("e", 1, "own", {}),
            ("f", 1, "own 2", {"sha256": "bytes of 5", "format": "array"}),
        ]
    )
    target_frame = divide(target)
    target_frame.loc[3, "labelled"] = False
    before = divide(source, val=0, test=0)
    after = leave_out(before, source, target, target_frame, labelled=False)
    assert after["reason"].tolist() == [
        "equals_target_test", "equals_target_val", "", "equals_target_test", "", ""
    ]  # fmt: skip
    assert after["split"].eq("excluded").tolist() == [True, True, False, True, False, False]
    assert not after["labelled"][after["split"] == "excluded"].any()
    assert before["reason"].eq("").all()
    strict = leave_out(before, source, target, target_frame, labelled=True)
    assert strict["reason"].tolist()[2] == "equals_target_labelled"


def refusal(data, choice, **arguments):
    arguments = {"folds": 0, "labels_per_class": None, "merge_val": False, **arguments}
    frame = split(
        data,
        choice,
        labels_per_class=arguments["labels_per_class"],
        merge_val=arguments["merge_val"],
    )
    with pytest.raises(DataRefusedError) as caught:
        check_coverage(data, frame, choice, **arguments)
    return str(caught.value)


def test_enough_of_everything_passes():
    data, choice = many(90), SplitSettings()
    for folds in (0, 5):
        frame = split(data, choice, labels_per_class=None, merge_val=folds > 0)
        check_coverage(data, frame, choice, folds=folds, labels_per_class=None, merge_val=folds > 0)


def test_the_refusal_names_the_classes_their_counts_and_a_seed_that_helps():
    data = many(12)
    bad = next(
        s
        for s in range(50)
        if (divide(data, seed=s, val=0, test=0.3)["split"] == "test")[
            data.items["label"] == 1
        ].sum()
        == 0
    )
    choice = SplitSettings(seed=bad, val=0, test=0.3)
    text = refusal(data, choice, folds=2)
    assert "dataset toys" in text
    assert "  b: train 4, val 0, test 0, excluded 0, labelled 4, independent 4" in text
    assert "lower adapt.folds (now 2)" in text
    assert "`split` column" in text
    seed = int(text.split("split.seed=")[1].split(",")[0])
    better = choice.model_copy(update={"seed": seed})
    frame = split(data, better, labels_per_class=None, merge_val=False)
    check_coverage(data, frame, better, folds=2, labels_per_class=None, merge_val=False)
    for earlier in range(seed):
        refusal(data, choice.model_copy(update={"seed": earlier}), folds=2)


def test_a_seed_is_found_among_large_groups():
    groups = [f"g{i % 7}" if i % 9 else "" for i in range(200)]
    rows = [(f"{i:03}", i % 2, f"p{i}", {"group": g}) for i, g in enumerate(groups)]
    text = refusal(
        manifest(rows, 2), SplitSettings(test=0.8), folds=7, labels_per_class=7, merge_val=True
    )
    better = SplitSettings(test=0.8, seed=int(text.split("split.seed=")[1].split(",")[0]))
    arguments = {"labels_per_class": 7, "merge_val": True}
    frame = split(manifest(rows, 2), better, **arguments)
    check_coverage(manifest(rows, 2), frame, better, folds=7, **arguments)


def test_no_seed_helps_a_class_that_is_too_small():
    text = refusal(many(12), SplitSettings(val=0), folds=4)
    assert "no split.seed in 0..999 covers every class" in text


def test_a_class_without_items_is_named():
    data = Manifest("toys", "image", ("a", "b", "c", "z"), many(90).items)
    text = refusal(data, SplitSettings())
    assert "  z: train 0, val 0, test 0, excluded 0, labelled 0, independent 0" in text
    assert "dataset toys: 1 class with too few items" in text


def test_without_folds_a_validation_item_is_needed():
    text = refusal(many(9), SplitSettings(val=0.01), folds=0)
    assert "1 labelled item and 1 val item" in text
    assert text.count(" val 0,") == 3


def test_a_share_of_0_is_reported():
    assert "raise split.val (now 0)" in refusal(many(90), SplitSettings(val=0), folds=0)
    assert "raise split.test (now 0)" in refusal(many(90), SplitSettings(test=0), folds=3)


def test_excluded_items_are_reported():
    rows = [(f"{i}", 0, f"p{i}", {"group": "g", "given_split": "train"}) for i in range(9)]
    rows += [("t", 0, "t", {"group": "g", "given_split": "test"})]
    text = refusal(manifest(rows, classes=1), SplitSettings(), folds=5)
    assert "Excluded: 9 group_in_test" in text


def test_copies_count_once_for_the_folds():
    rows = [
        (f"{i:02}", 0, f"p{i}" if i < 3 else "same", {"given_split": "train"}) for i in range(9)
    ]
    rows += [("t", 0, "t", {"given_split": "test"})]
    text = refusal(manifest(rows, classes=1), SplitSettings(), folds=5)
    assert "labelled 9, independent 4" in text


def test_a_cap_below_the_folds_is_reported():
    text = refusal(many(90), SplitSettings(), folds=5, labels_per_class=2, merge_val=True)
    assert "raise labels_per_class (now 2) to 5" in text


def test_save_and_load(tmp_path):
    rows = [("1", 0, "p", {"given_split": "test"}), ("2", 0, "p", {"given_split": "train"})]
    rows += [("3", 1, "q", {"given_split": "val"}), ("4", 2, "q", {"given_split": "train"})]
    rows += [("5", 1, "r", {"given_split": "train"}), ("ü", 2, "s", {"given_split": "test"})]
    data = manifest(rows)
    frame = split(data, SplitSettings(), labels_per_class=None, merge_val=False)
    save(tmp_path, data, frame, [NearPair("ü", "5", 0.01), NearPair("1", "5", 0.02)])
    assert load(tmp_path, data).equals(frame)
    saved = json.loads((tmp_path / "split.json").read_text())
    assert {k: saved[k] for k in ("items", "train", "val", "test", "excluded", "labelled")} == {
        "items": 6, "train": 1, "val": 1, "test": 2, "excluded": 2, "labelled": 1
    }  # fmt: skip
    assert saved["excluded_by_reason"] == {"copy_of_test_item": 1, "copy_of_val_item": 1}
    assert saved["classes"]["c"] == {
        "train": 0, "val": 0, "test": 1, "excluded": 1, "labelled": 0, "independent": 0
    }  # fmt: skip
    assert saved["same_content_other_label"] == 2
    near = saved["near_duplicates"]
    assert near["pairs"] == 2
    assert near["by_splits"] == {"test-train": 2}
    assert near["items"] == {"train": 1, "val": 0, "test": 2}
    assert near["examples"][0] == {
        "a": "ü", "a_split": "test", "b": "5", "b_split": "train", "rms": 0.01
    }  # fmt: skip


def test_an_unreadable_split_is_refused(tmp_path):
    with pytest.raises(DataRefusedError, match="no readable split"):
        load(tmp_path, many(2))
    (tmp_path / "split.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(DataRefusedError, match="no readable split"):
        load(tmp_path, many(2))
    many(2).items[["id"]].to_parquet(tmp_path / "split.parquet")
    with pytest.raises(DataRefusedError, match="no readable split"):
        load(tmp_path, many(2))


def test_an_empty_manifest_gives_an_empty_split():
    assert divide(many(0), cap=3).columns.tolist() == ["split", "labelled", "reason", "id"]
