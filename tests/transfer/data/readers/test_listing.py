import errno
import os
from collections import Counter

import pytest

from tests.transfer import tiny
from transfer.core.errors import DataRefusedError
from transfer.data.readers.listing import (
    Reject,
    check_classes,
    check_spelling,
    no_dataset,
    read,
    unreadable,
)
from transfer.modalities.image.spec import ImageLimits
from transfer.modalities.interface import Unreadable


def reason(path, **limits):
    with pytest.raises(Unreadable) as caught:
        read(path, ImageLimits(**limits))
    return caught.value.reason


def test_read_gives_the_bytes(tmp_path):
    (tmp_path / "a.png").write_bytes(b"12345")
    assert read(tmp_path / "a.png", ImageLimits(max_bytes=5)) == b"12345"


def test_read_names_what_stands_in_the_way(tmp_path):
    (tmp_path / "a.png").write_bytes(b"12345")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert reason(tmp_path / "a.png", max_bytes=4) == "too_large"
    assert reason(tmp_path / "folder.png") == "wrong_type"
    assert reason(tmp_path / "link.png") == "symlink"
    assert reason(tmp_path / "loop.png") == "symlink"
    assert reason(tmp_path / "pipe.png") == "wrong_type"
    assert reason(tmp_path / "absent.png") == "missing"
    assert reason(tmp_path / "a.png" / "b.png") == "missing"
    assert reason(tmp_path / ("x" * 300 + ".png")) == "unreadable"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "permission"),
        (PermissionError(errno.EPERM, "Operation not permitted"), "permission"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "missing"),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), "wrong_type"),
        (OSError(errno.EIO, "Input/output error"), "unreadable"),
        (OSError("no number"), "unreadable"),
    ],
)
def test_each_refusal_of_the_system_has_a_reason(error, expected):
    assert unreadable(error).reason == expected
    assert unreadable(error).detail


def test_a_wrong_path_brings_the_nearest_one(tmp_path):
    (tmp_path / "animals").mkdir()
    message = str(no_dataset(tmp_path / "animal"))
    assert "does not exist" in message and f"did you mean {tmp_path / 'animals'}?" in message
    assert "did you mean" not in str(no_dataset(tmp_path / "zzz"))
    assert "does not exist" in str(no_dataset(tmp_path / "no" / "where"))
    (tmp_path / "notes.txt").write_text("")
    assert "is no dataset" in str(no_dataset(tmp_path / "notes.txt"))


def test_classes_must_be_two_and_full(tmp_path):
    rejects = [Reject(".x", "hidden", "-"), Reject("b/1.png", "truncated", "ends early")]
    check_classes(tmp_path, ["a", "b"], Counter(a=1, b=2), rejects, tiny.MODALITY)
    with pytest.raises(DataRefusedError, match=r"1 hidden, 1 truncated\); b/1.png: ends early"):
        check_classes(tmp_path, ["a", "b"], Counter(), rejects, tiny.MODALITY)
    with pytest.raises(DataRefusedError, match="no readable image of class 'b', 'c'"):
        check_classes(tmp_path, ["a", "b", "c"], Counter(a=1), rejects, tiny.MODALITY)
    with pytest.raises(DataRefusedError, match="one class, 'a'"):
        check_classes(tmp_path, ["a"], Counter(a=5), [], tiny.MODALITY)


def test_a_misspelt_optional_name_is_refused():
    check_spelling("x", ["group", "groups"], ["group"])
    check_spelling("x", ["width", "source"], ["group", "split"])
    with pytest.raises(DataRefusedError, match="'Groups'; expected 'group'"):
        check_spelling("x", ["path", "Groups"], ["group", "split"])
