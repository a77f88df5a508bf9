import os
import unicodedata

import pytest

from tests.transfer import tiny
from transfer.core.errors import DataRefusedError
from transfer.data.readers.class_folders import list_folder


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"-")


def reasons(listing):
    return {r.path: r.reason for r in listing.rejects}


def test_classes_are_the_top_folders_and_items_lie_at_any_depth(tmp_path):
    touch(tmp_path, "b/1.png", "b/deep/er/2.JPG", "a/3.tiff")
    listing = list_folder(tmp_path, tiny.MODALITY)
    assert listing.class_names == ("a", "b")
    assert [(e.id, e.label) for e in listing.entries] == [
        ("a/3.tiff", "a"),
        ("b/1.png", "b"),
        ("b/deep/er/2.JPG", "b"),
    ]
    assert [e.path for e in listing.entries] == [tmp_path / e.id for e in listing.entries]
    assert listing.rejects == []


def test_what_is_no_item_has_a_reason(tmp_path):
    touch(
        tmp_path, "a/1.png", "a/notes.txt", "a/.DS_Store", "a/Thumbs.db", "loose.png", ".git/HEAD"
    )
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "a" / "1.png")
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    listing = list_folder(tmp_path, tiny.MODALITY)
    assert [e.id for e in listing.entries] == ["a/1.png"]
    assert listing.class_names == ("a",)
    assert reasons(listing) == {
        ".git": "hidden",
        "a/.DS_Store": "hidden",
        "a/Thumbs.db": "hidden",
        "a/link.png": "symlink",
        "a/notes.txt": "wrong_type",
        "linked": "symlink",
        "loose.png": "no_class_folder",
    }


def test_a_class_is_one_whatever_its_unicode_form(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "jalapeño") for form in ("NFC", "NFD"))
    touch(tmp_path, f"{composed}/1.png", f"{decomposed}/2.png", "玫瑰/花.png")
    listing = list_folder(tmp_path, tiny.MODALITY)
    assert listing.class_names == (composed, "玫瑰")
    assert {e.label for e in listing.entries} == set(listing.class_names)
    assert len({e.id for e in listing.entries}) == 3


def test_a_name_that_is_no_utf8_is_rejected_in_writable_form(tmp_path):
    touch(tmp_path, "a/1.png")
    with open(os.fsencode(tmp_path) + b"/a/caf\xe9.png", "wb") as file:  # noqa: PTH123 (bytes)
        file.write(b"-")
    assert reasons(list_folder(tmp_path, tiny.MODALITY)) == {r"a/caf\xe9.png": "bad_name"}


def test_an_empty_class_folder_is_listed_as_a_class(tmp_path):
    touch(tmp_path, "a/1.png")
    (tmp_path / "b" / "c").mkdir(parents=True)
    assert list_folder(tmp_path, tiny.MODALITY).class_names == ("a", "b")


def test_folders_of_splits_are_no_classes(tmp_path):
    touch(tmp_path, "train/a/1.png", "Test/a/2.png")
    with pytest.raises(DataRefusedError, match=r"are splits \(Test, train\).*column"):
        list_folder(tmp_path, tiny.MODALITY)
