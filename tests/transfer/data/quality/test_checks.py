import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.core.errors import DataRefusedError
from transfer.data.manifest import Manifest, columns
from transfer.data.quality import checks
from transfer.data.quality.checks import ScannedDataset
from transfer.data.splits import split

COLUMNS = columns("image")

PLAIN = {"group": "", "given_split": "", "mode": "L", "format": "PNG"}
PLAIN |= {"width": 8, "height": 8, "mean": 100.0, "std": 10.0, "label": 0}


def scanned(rows, sides=None, classes=("cat", "dog", "owl"), rejects=()):
    """A dataset of rows (id, pixels, differences from a plain item of class 0)."""
    full = [
        PLAIN | {"id": i, "content": pixels, "sha256": f"bytes of {i}"} | other
        for i, pixels, other in rows
    ]
    items = pd.DataFrame(full, columns=list(COLUMNS)).astype(COLUMNS)
    frame = None
    if sides is not None:
        splits = pd.Categorical(sides, split.NAMES)
        frame = pd.DataFrame({"split": splits, "labelled": False, "reason": ""})
    return ScannedDataset(Manifest("toys", "image", tuple(classes), items), list(rejects), frame)


def items_table(data, target=None):
    return pd.concat(checks.items_tables(data, target), ignore_index=True)


def test_copies_and_conflicts_are_named():
    data = scanned(
        [("a", "p", {}), ("b", "p", {"label": 1}), ("c", "q", {}), ("d", "p", {"label": 9})]
    )
    table = items_table(data)
    assert table["copy_of"].tolist() == ["", "a", "", "a"]
    assert table["other_label"].tolist() == ["dog, label 9", "cat, label 9", "", "cat, dog"]
    assert table["elsewhere"].tolist() == [""] * 4


def test_items_linked_across_splits_are_named_and_excluded_items_are_not():
    rows = [("a", "p", {}), ("b", "p", {"group": "g"}), ("c", "q", {"group": "g"}), ("d", "p", {})]
    table = items_table(scanned(rows, ["train", "train", "test", "excluded"]))
    assert table["elsewhere"].tolist() == ["test", "test", "train", ""]


def test_rows_of_one_array_file_are_not_copies():
    array = {"format": "array", "sha256": "same"}
    data = scanned([("x#0", "p", array), ("x#1", "q", array)], ["train", "test"])
    assert items_table(data)["elsewhere"].tolist() == ["", ""]


rows = st.lists(
    st.fixed_dictionaries(
        {
            "content": st.sampled_from("pqrst"),
            "group": st.sampled_from(["", "g", "h"]),
            "sha256": st.sampled_from(["x", "y", "z", "v", "w"]),
            "side": st.sampled_from(["train", "val", "test", "excluded"]),
        }
    ),
    max_size=9,
)


@given(rows)
def test_linked_items_agree_with_a_naive_search(drawn):
    keys = [(r["content"], r["group"], r["sha256"]) for r in drawn]
    data = scanned(
        [
            (str(i), r["content"], {k: r[k] for k in ("group", "sha256")})
            for i, r in enumerate(drawn)
        ],
        [r["side"] for r in drawn],
    )
    elsewhere = items_table(data)["elsewhere"].tolist()
    for i, row in enumerate(drawn):
        reached = {i}
        for _ in drawn:
            reached |= {
                j
                for j, key in enumerate(keys)
                for k in reached
                if any(
                    value and value == other_value
                    for value, other_value in zip(key, keys[k], strict=True)
                )
            }
        sides = {drawn[j]["side"] for j in reached} - {"excluded", row["side"]}
        expected = "" if row["side"] == "excluded" else ", ".join(sorted(sides))
        assert elsewhere[i] == expected


def test_a_split_of_this_library_has_no_leaks():
    rng = np.random.default_rng(0)
    source = scanned([(f"s{i}", f"p{rng.integers(60)}", {}) for i in range(80)])
    target = scanned([(f"t{i}", f"p{rng.integers(60)}", {}) for i in range(40)])
    choice = split.SplitSettings(val=0.2, test=0.3)
    frames = [
        split.split(dataset.manifest, choice, labels_per_class=None, merge_val=False)
        for dataset in (source, target)
    ]
    target = ScannedDataset(target.manifest, [], frames[1])
    leaking = ScannedDataset(source.manifest, [], frames[0])
    clean = split.leave_out(frames[0], source.manifest, target.manifest, frames[1], labelled=False)
    assert (items_table(leaking, target)["held_out"] != "").any()
    table = items_table(ScannedDataset(source.manifest, [], clean), target)
    assert (table[["elsewhere", "held_out"]] == "").all(axis=None)
    assert (table["in_target"] != "").any()


def test_a_source_item_equal_to_a_target_item_is_named_by_content_and_by_file():
    source = scanned(
        [("s0", "p", {}), ("s1", "q", {"sha256": "f"}), ("s2", "r", {}), ("s3", "p", {})],
        ["train", "val", "train", "excluded"],
    )
    target = scanned([("t0", "p", {}), ("t1", "z", {"sha256": "f"})], ["test", "train"])
    table = items_table(source, target)
    assert table["in_target"].tolist() == ["t0", "t1", "", "t0"]
    assert table["held_out"].tolist() == ["test", "", "", ""]


@given(rows, rows)
def test_equal_items_of_a_target_agree_with_a_naive_search(drawn, others):
    source, target = (
        scanned(
            [(f"{name}{i}", r["content"], {"sha256": r["sha256"]}) for i, r in enumerate(several)],
            [r["side"] for r in several],
        )
        for name, several in (("s", drawn), ("t", others))
    )

    def last(item, sides):
        """The last equal target item on these sides; the same content goes before the same file."""
        for key in ("content", "sha256"):
            equal = [i for i, r in enumerate(others) if r[key] == item[key] and r["side"] in sides]
            if equal:
                return equal[-1]
        return None

    anywhere = [last(r, split.NAMES) for r in drawn]
    judged = [None if r["side"] == "excluded" else last(r, ("val", "test")) for r in drawn]
    table = items_table(source, target)
    assert table["in_target"].tolist() == ["" if i is None else f"t{i}" for i in anywhere]
    sides = ["" if i is None else others[i]["side"] for i in judged]
    assert table["held_out"].tolist() == sides


@pytest.mark.parametrize("ids", ["ac", "abc", "a"])
def test_a_split_of_another_manifest_is_refused(tmp_path, ids):
    data = scanned([("a", "p", {}), ("b", "q", {})])
    other = scanned([(name, name, {}) for name in ids], ["train"] * len(ids))
    data.manifest.save(tmp_path)
    (tmp_path / "rejects.json").write_text("[]")
    split.save(tmp_path, other.manifest, other.split, [])
    with pytest.raises(DataRefusedError, match="lists other items than the 2 of the manifest"):
        ScannedDataset.load(tmp_path, tmp_path)


def test_classes_are_counted_with_the_empty_ones():
    labels = [0, 0, 0, 2]
    table = checks.classes_table(
        scanned([(str(i), str(i), {"label": x}) for i, x in enumerate(labels)]).manifest
    )
    assert table["class"].tolist() == ["cat", "dog", "owl"]
    assert table["items"].tolist() == [3, 0, 1]
    np.testing.assert_array_equal(table["times_fewer"], [1, np.nan, 3])


def test_files_are_the_accepted_and_the_rejected_ones():
    reject = {"path": "bad.png", "reason": "truncated", "detail": "12 bytes"}
    system = {**reject, "path": ".DS_Store", "reason": "hidden"}
    data = scanned([("a", "p", {})], rejects=[system, reject])
    table = pd.concat(checks.files_tables(data))
    assert checks.file_count(data) == len(table)
    assert table.to_numpy().tolist() == [["bad.png", "truncated"], ["a", ""]]


def test_a_pair_has_a_relation_and_a_share_of_near_duplicates_among_searched_items():
    source = scanned([], classes=("cat", "fox"))
    target = scanned([(str(i), str(i), {}) for i in range(10)], ["train"] * 2 + ["val", "test"] * 4)
    near = {"items": {"train": 2, "val": 0, "test": 2}, "searched": {"test": 4, "val": 4}}
    assert checks.pair_table(source, target, near).to_dict("records") == [
        {"pair": "toys to toys", "relation": "overlap", "near_share": 0.25}
    ]
    unknown = checks.pair_table(scanned([], classes=("cat", "cat")), target, None).iloc[0]
    assert "'cat' more than once" in unknown["relation"]
    assert np.isnan(unknown["near_share"])


def test_a_stored_scan_and_split_are_loaded(tmp_path):
    data = scanned([("é", "p", {})], ["train"], rejects=[{"path": "ö", "reason": "empty"}])
    data.manifest.save(tmp_path)
    with pytest.raises(DataRefusedError, match=r"no readable rejects\.json in .*; scan again"):
        ScannedDataset.load(tmp_path)
    (tmp_path / "rejects.json").write_text(json.dumps(data.rejects), encoding="utf-8")
    split.save(tmp_path, data.manifest, data.split, [])
    assert ScannedDataset.load(tmp_path).split is None
    loaded = ScannedDataset.load(tmp_path, tmp_path)
    assert loaded.rejects == data.rejects
    pd.testing.assert_frame_equal(items_table(loaded), items_table(data))
