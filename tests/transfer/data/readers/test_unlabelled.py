"""Everything in a folder, a manifest or an archive is told, in an order that does not change."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.transfer import tiny
from transfer.core.errors import DataRefusedError
from transfer.data.readers.listing import Reject
from transfer.data.readers.unlabelled import Unlabelled
from transfer.modalities.image.spec import ImageLimits

LIMITS = ImageLimits()


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    for name in ("b.png", "a/z.png", "a/deep/er/1.png", "c/2.jpg", "été/x.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(root / name)
    return root


def told(source):
    return [
        (item.id, item.content.reason if isinstance(item.content, Reject) else "")
        for item in Unlabelled.open(source, LIMITS, tiny.MODALITY)
    ]


def test_a_folder_is_gone_through_at_any_depth_in_the_order_of_its_names(folder):
    names = ["b.png", "a/z.png", "a/deep/er/1.png", "c/2.jpg", "été/x.png"]
    assert told(folder) == [(name, "") for name in names]
    assert told(folder) == told(folder)


def test_what_cannot_be_used_is_told_in_its_place(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes((folder / "b.png").read_bytes())
    (folder / "a/out.png").symlink_to(tmp_path / "secret.png")
    (folder / "way").symlink_to(tmp_path)
    (folder / "notes.txt").write_text("no picture")
    (folder / "Thumbs.db").write_bytes(b"")
    os.mkdir(os.fsencode(folder) + b"/\xff")  # noqa: PTH102
    rejects = [(name, why) for name, why in told(folder) if why]
    assert rejects == [
        ("Thumbs.db", "hidden"),
        ("notes.txt", "wrong_type"),
        ("way", "symlink"),
        ("\\xff", "bad_name"),
        ("a/out.png", "symlink"),
    ]


def test_a_folder_that_cannot_be_read_is_told(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    assert ("a/deep", "permission") in told(folder)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_needs_paths_alone_and_keeps_its_order(folder, kind):
    paths = ["c/2.jpg", "b.png", "b.png", "../b.png", "notes.txt", ""]
    table, file = pd.DataFrame({"path": paths, "note": "x"}), folder / f"list.{kind}"
    table.to_csv(file, index=False) if kind == "csv" else table.to_parquet(file)
    assert told(file) == [
        ("c/2.jpg", ""),
        ("b.png", ""),
        ("b.png", ""),
        ("../b.png", "path_escape"),
        ("notes.txt", "wrong_type"),
        ("", "missing"),
    ]


def test_an_archive_needs_images_alone(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    np.savez(tmp_path / "x.npz", images=pixels)
    found = list(Unlabelled.open(tmp_path / "x.npz", LIMITS, tiny.MODALITY))
    assert [item.id for item in found] == [f"x.npz#00000{i}" for i in range(3)]
    assert np.array_equal([item.load(LIMITS) for item in found], pixels)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "does not exist; expected a folder of files"),
        ("b.png", "is of another kind; expected a folder of files"),
        ("bad.npz", "no readable .npz"),
        ("floats.npz", "images' is float64"),
        ("bad.csv", "lacks the column path"),
    ],
)
def test_what_is_none_is_refused(folder, name, message):
    (folder / "bad.npz").write_bytes(b"PK")
    (folder / "bad.csv").write_text("file\na.png\n")
    np.savez(folder / "floats.npz", images=np.zeros((1, 4, 4)))
    with pytest.raises(DataRefusedError, match=message):
        list(Unlabelled.open(folder / name, LIMITS, tiny.MODALITY))


def stamps(source):
    found = Unlabelled.open(source, LIMITS, tiny.MODALITY)
    return [found.stamp + item.stamp() for item in found]


def test_a_stamp_changes_with_the_content_its_name_or_its_permission(folder):
    file, before = folder / "b.png", stamps(folder)
    assert stamps(folder) == before
    for change in (
        lambda: file.write_bytes(file.read_bytes() + b" "),
        lambda: os.utime(file, ns=(1, 1)),
        lambda: file.chmod(0o400),
        lambda: file.rename(folder / "bb.png"),
    ):
        change()
        after = stamps(folder)
        assert after[1:] == before[1:]
        assert after[0] != before[0]
        before = after


def test_a_stamp_of_an_archive_changes_with_the_file(tmp_path):
    file = tmp_path / "x.npz"
    np.savez(file, images=np.zeros((2, 4, 4), np.uint8))
    before = stamps(file)
    np.savez(file, images=np.ones((2, 4, 4), np.uint8))
    assert not set(before) & set(stamps(file))


def test_the_order_is_that_of_python_and_not_of_the_disk(tmp_path):
    names = [f"{i}.png" for i in (10, 9, 2, 1)]
    for name in names:
        Path(tmp_path, name).write_bytes(b"")
    assert [name for name, _ in told(tmp_path)] == sorted(names)
