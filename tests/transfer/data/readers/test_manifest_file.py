import pandas as pd
import pytest

from tests.transfer import tiny
from transfer.core.errors import DataRefusedError
from transfer.data.readers.manifest_file import list_table


def listed(folder, text, encoding="utf-8"):
    (folder / "items.csv").write_text(text, encoding=encoding)
    return list_table(folder / "items.csv", tiny.MODALITY)


def refusal(folder, text):
    with pytest.raises(DataRefusedError) as caught:
        listed(folder, text)
    return str(caught.value)


def reasons(listing):
    return [(r.path, r.reason) for r in listing.rejects]


def test_rows_become_entries_sorted_by_path(tmp_path):
    text = "group,split,path,label,width\ng1,val,b/2.png,cat,7\n,,./a/1.png,dog,8\n"
    listing = listed(tmp_path, text)
    assert listing.class_names == ("cat", "dog")
    assert [(e.id, e.label, e.group, e.split) for e in listing.entries] == [
        ("a/1.png", "dog", "", ""),
        ("b/2.png", "cat", "g1", "val"),
    ]
    assert listing.entries[0].path == tmp_path / "a" / "1.png"
    assert listing.rejects == []


def test_labels_stay_as_written(tmp_path):
    text = 'path,label\n1.png,03\n2.png,NA\n3.png,None\n4.png,3\n5.png," a, b "\n6.png,nan\n'
    assert [e.label for e in listed(tmp_path, text).entries] == [
        "03",
        "NA",
        "None",
        "3",
        "a, b",
        "nan",
    ]


def test_a_byte_order_mark_and_spaces_in_the_header(tmp_path):
    listing = listed(tmp_path, "path, label\r\n1.png, cat\r\n\r\n", encoding="utf-8-sig")
    assert [(e.id, e.label) for e in listing.entries] == [("1.png", "cat")]


def test_labels_are_nfc(tmp_path):
    assert listed(tmp_path, "path,label\n1.png,n\u0303\n2.png,\u00f1\n").class_names == ("\u00f1",)


def test_rows_that_cannot_be_used_have_a_reason(tmp_path):
    text = (
        "path,label,split\n"
        "1.png,a,\n./1.png,b,\nsub/../1.png,a,\n"
        "2.png,,\n3.png,a,Train\n,a,\n../4.png,a,\n/etc/5.png,a,\n6.txt,a,\n..7.png,a,\n.,a,\n"
    )
    listing = listed(tmp_path, text)
    assert [e.id for e in listing.entries] == ["..7.png", "1.png"]
    assert reasons(listing) == [
        ("1.png", "duplicate_path"),
        ("1.png", "duplicate_path"),
        ("2.png", "no_label"),
        ("3.png", "bad_split"),
        ("", "missing"),
        ("../4.png", "path_escape"),
        ("/etc/5.png", "path_escape"),
        ("6.txt", "wrong_type"),
        (".", "wrong_type"),
    ]
    assert listing.rejects[0].detail == "row 2 names it again as 'b', first as 'a'"
    assert listing.rejects[1].detail == "row 3 names it again"


def test_links_are_not_followed_and_lead_nowhere(tmp_path):
    inside, outside = tmp_path / "data", tmp_path / "secret"
    (inside / "real").mkdir(parents=True)
    outside.mkdir()
    for file in (outside / "1.png", inside / "real" / "1.png"):
        file.write_bytes(b"-")
    (inside / "out.png").symlink_to(outside / "1.png")
    (inside / "away").symlink_to(outside)
    (inside / "in.png").symlink_to("real/1.png")
    (inside / "near").symlink_to("real")
    paths = ["out.png", "away/1.png", "in.png", "near/1.png", "real/1.png"]
    listing = listed(inside, "path,label\n" + "".join(f"{p},a\n" for p in paths))
    assert [e.id for e in listing.entries] == ["real/1.png"]
    assert reasons(listing) == [
        ("out.png", "path_escape"),
        ("away/1.png", "path_escape"),
        ("in.png", "symlink"),
        ("near/1.png", "symlink"),
    ]


def test_an_absolute_path_is_refused_even_into_the_folder(tmp_path):
    listing = listed(tmp_path, f"path,label\n{tmp_path}/1.png,a\n")
    assert reasons(listing) == [(f"{tmp_path}/1.png", "path_escape")]


def test_a_link_to_itself_is_left_to_the_reader(tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert len(listed(tmp_path, "path,label\nloop.png,a\n").entries) == 1


def test_a_folder_reached_by_a_link_is_as_good(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert len(listed(tmp_path / "link", "path,label\n1.png,a\n").entries) == 1


def test_parquet_gives_what_csv_gives(tmp_path):
    table = pd.DataFrame(
        {
            "path": ["1.png", "2.png", "3.png", "nul\0.png"],
            "label": [7, 3, None, 1],
            "w": [1, 2, 3, 4],
        },
    ).astype({"label": "Int64"})
    table.to_parquet(tmp_path / "items.parquet")
    listing = list_table(tmp_path / "items.parquet", tiny.MODALITY)
    assert [(e.id, e.label, e.group) for e in listing.entries] == [
        ("1.png", "7", ""),
        ("2.png", "3", ""),
    ]
    assert reasons(listing) == [("3.png", "no_label"), ("nul\0.png", "bad_name")]


def test_parquet_missing_floats_are_missing(tmp_path):
    pd.DataFrame(
        {"path": ["1.png", "2.png"], "label": ["a", "b"], "group": [1.5, None]}
    ).to_parquet(tmp_path / "items.parquet")
    assert [e.group for e in list_table(tmp_path / "items.parquet", tiny.MODALITY).entries] == [
        "1.5",
        "",
    ]


def test_manifests_that_cannot_be_read(tmp_path):
    assert "lacks the column label; found path, class" in refusal(tmp_path, "path,class\n1.png,a\n")
    assert "lacks the column path and label; found path;label" in refusal(tmp_path, "path;label\n")
    assert "lacks the column path and label; found nothing" in refusal(tmp_path, "")
    assert "row 2 has 3 fields, expected 2" in refusal(tmp_path, "path,label\n1.png,a\n2.png,a,b\n")
    assert "two columns of one name" in refusal(tmp_path, "path,label,label\n1.png,a,b\n")
    assert "expected 'group'" in refusal(tmp_path, "path,label,groups\n1.png,a,b\n")
    assert "not a readable UTF-8 CSV" in refusal(tmp_path, 'path,label\n"1.png,a\n')
    (tmp_path / "latin.csv").write_bytes(b"path,label\n1.png,caf\xe9\n")
    with pytest.raises(DataRefusedError, match="not a readable UTF-8 CSV"):
        list_table(tmp_path / "latin.csv", tiny.MODALITY)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(DataRefusedError, match="not a readable Parquet"):
        list_table(tmp_path / "bad.parquet", tiny.MODALITY)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataRefusedError):
        list_table(tmp_path / "folder.csv", tiny.MODALITY)
