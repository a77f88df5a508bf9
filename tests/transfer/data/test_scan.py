import hashlib
import io
import json
import os
import stat
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from tests.transfer import tiny
from transfer.core.errors import DataRefusedError
from transfer.data import scan as scanning
from transfer.data.manifest import Manifest, columns
from transfer.data.readers.listing import Entry, FolderEntries
from transfer.data.storage.tensor_store import on_disk
from transfer.modalities.image.decoding.decode import from_array
from transfer.modalities.image.settings import ImageSettings
from transfer.modalities.image.spec import ImageLimits, ImageSpec

SPEC = ImageSpec(size=8, channels=1)
RNG = np.random.default_rng(0)


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def bomb():
    data = bytearray(png(noise(1, 1)))
    data[16:24] = (10_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def not_finite():
    stream = io.BytesIO()
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(stream, "TIFF")
    return stream.getvalue()


BAD = {  # a file's name and bytes to the reason for which it is rejected
    "unreadable.png": (b"\x89PNG\r\n\x1a\n" + bytes(40), "unreadable"),
    "truncated.png": (png(noise(40, 40))[:900], "truncated"),
    "bomb.png": (bomb(), "too_many_pixels"),
    "heavy.png": (png(noise(8, 8)) + bytes(2**20), "too_large"),
    "text.jpg": (b"this is text", "wrong_type"),
    "notes.txt": (b"this is text", "wrong_type"),
    "empty.png": (b"", "empty"),
    "nan.tiff": (not_finite(), "not_finite"),
    ".DS_Store": (b"-", "hidden"),
}


def fill(root, *names, side=8):
    """Write a distinct grey PNG under each name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(noise(side, side)))


@pytest.fixture
def dataset(tmp_path):
    fill(tmp_path / "set", "cat/1.png", "cat/2.png", "dog/1.png")
    return tmp_path / "set"


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def scan(dataset, out, **change):
    settings = {"name": "toys", "spec": SPEC, "limits": ImageLimits(max_bytes=2**20)}
    manifest = scanning.scan(dataset, out, **settings | change)
    return replace(manifest, items=manifest.items[list(columns("image"))])


def refusal(dataset, out):
    with pytest.raises(DataRefusedError) as caught:
        scan(dataset, out)
    return str(caught.value)


def rejects(out):
    return {r["path"]: r["reason"] for r in json.loads((out / "rejects.json").read_text())}


def test_a_scan_writes_what_it_returns(dataset, out):
    manifest = scan(dataset, out)
    assert (manifest.name, manifest.modality) == ("toys", "image")
    assert manifest.class_names == ("cat", "dog")
    assert list(manifest.items["id"]) == ["cat/1.png", "cat/2.png", "dog/1.png"]
    assert list(manifest.items["label"]) == [0, 0, 1]
    assert {k: str(v) for k, v in manifest.items.dtypes.items()} == columns("image")
    pd.testing.assert_frame_equal(Manifest.load(out).items[list(columns("image"))], manifest.items)
    assert json.loads((out / "scan.json").read_text()) == {
        "spec": {"modality": "image", "size": 8, "channels": 1, "fit": "crop"},
        "dtype": "uint8",
        "items": 3,
        "rejects": 0,
        "shape": [3, 1, 8, 8],
    }
    assert rejects(out) == {}


def test_a_row_describes_its_picture(dataset, out):
    pixels = noise(20, 30, 3)
    (dataset / "cat" / "1.png").write_bytes(png(pixels))
    row = scan(dataset, out).items.iloc[0]
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)
    assert (row["width"], row["height"], row["mode"], row["format"]) == (30, 20, "RGB", "PNG")
    assert (row["group"], row["given_split"]) == ("", "")
    assert row["mean"] == pytest.approx(grey.mean())
    assert row["std"] == pytest.approx(grey.std())
    assert row["sha256"] == hashlib.sha256((dataset / "cat" / "1.png").read_bytes()).hexdigest()
    assert row["content"] == hashlib.sha256(b"30x20" + pixels.tobytes()).hexdigest()


def test_a_grey_picture_and_its_rgb_copy_have_the_same_pixels(dataset, out):
    grey = noise(9, 9)
    (dataset / "cat" / "1.png").write_bytes(png(grey))
    Image.fromarray(np.stack([grey] * 3, axis=2)).save(dataset / "cat" / "2.png")
    items = scan(dataset, out).items
    assert items["content"][0] == items["content"][1] != items["content"][2]
    assert items["sha256"][0] != items["sha256"][1]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_the_manifests_rows_in_order(tmp_path, out, channels):
    sides = {"b/x.png": 8, "a/deep/y.png": 31, "a/z.png": 300, "a/10.png": 12, "a/9.png": 9}
    arrays = {name: noise(side, side + 3, 3) for name, side in sides.items()}
    for name, array in arrays.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(png(array))
    (tmp_path / "set" / "a" / "broken.png").write_bytes(b"-")
    spec = ImageSpec(size=8, channels=channels)
    ids = list(scan(tmp_path / "set", out, spec=spec).items["id"])
    images = on_disk(out)[:].numpy()
    assert ids == sorted(arrays)
    assert images.shape == (5, channels, 8, 8)
    for i, id_ in enumerate(ids):
        assert np.array_equal(images[i], from_array(arrays[id_], spec))


def test_large_pictures_on_threads_keep_their_order(tmp_path, out, monkeypatch):
    names = [f"{i % 2}/{i:03d}.png" for i in range(150)]
    fill(tmp_path / "set", *names)
    slow = scan(tmp_path / "set", out)
    expected = (out / "records.bin").read_bytes()
    monkeypatch.setattr(scanning, "_LARGE", 1)
    pd.testing.assert_frame_equal(scan(tmp_path / "set", out).items, slow.items)
    assert (out / "records.bin").read_bytes() == expected


@pytest.mark.parametrize("dies", [False, True], ids=["all live", "one dies"])
def test_processes_read_what_one_process_reads(tmp_path, out, monkeypatch, dies):
    fill(tmp_path / "set", *(f"{i % 2}/{i:03d}.png" for i in range(150)))
    (tmp_path / "set" / "1" / "077.png").write_bytes(b"-")
    alone = scan(tmp_path / "set", out)
    expected = [(out / name).read_bytes() for name in ("records.bin", "rejects.json")]
    monkeypatch.setattr(scanning, "_MANY", 1)
    monkeypatch.setattr(scanning, "_CORES", 2)
    if dies:
        monkeypatch.setattr(scanning._Files, "__reduce__", lambda _: (os._exit, (1,)))
    pd.testing.assert_frame_equal(scan(tmp_path / "set", out).items, alone.items)
    assert [(out / name).read_bytes() for name in ("records.bin", "rejects.json")] == expected


def test_packed_entries_are_a_list_of_them():
    entries = FolderEntries(Path("set"))
    entries.add("rose", ["r/1.png", "r/ü.png"])
    entries.add("lily", ["s.png"])
    items = list(entries)
    assert items == [
        Entry("r/1.png", Path("set/r/1.png"), "rose"),
        Entry("r/ü.png", Path("set/r/ü.png"), "rose"),
        Entry("s.png", Path("set/s.png"), "lily"),
    ]
    assert (entries[1:], entries[-1], len(entries)) == (items[1:], items[2], 3)
    with pytest.raises(IndexError):
        entries[3]


def test_two_scans_write_the_same_bytes(dataset, tmp_path):
    (dataset / "cat" / "bad.png").write_bytes(b"-")
    written = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        scan(dataset, folder)
        written.append({f.name: f.read_bytes() for f in folder.iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {
        "manifest.parquet",
        "manifest.json",
        "rejects.json",
        "records.bin",
        "scan.json",
    }


def test_unicode_names_survive(tmp_path, out):
    fill(tmp_path / "дані", "玫瑰/花 1.png", "jalape\u00f1o/\U0001f336.png")
    manifest = scan(tmp_path / "дані", out)
    assert manifest.class_names == ("jalape\u00f1o", "玫瑰")
    loaded = Manifest.load(out)
    assert loaded.class_names == manifest.class_names
    assert list(loaded.items["id"]) == ["jalape\u00f1o/\U0001f336.png", "玫瑰/花 1.png"]


def test_an_exif_rotated_jpeg_is_measured_upright(dataset, out):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 20), "red").save(dataset / "cat" / "3.jpg", exif=exif)
    row = scan(dataset, out).items.iloc[2]
    assert (row["width"], row["height"], row["format"]) == (20, 40, "JPEG")


# --- bad input


@pytest.mark.parametrize("name", BAD)
def test_each_bad_file_is_rejected_with_its_reason(dataset, out, name):
    content, reason = BAD[name]
    (dataset / "cat" / name).write_bytes(content)
    assert len(scan(dataset, out)) == 3
    assert rejects(out) == {f"cat/{name}": reason}


def test_links_loose_files_and_foreign_things_are_rejected(dataset, out):
    (dataset / "cat" / "link.png").symlink_to(dataset / "cat" / "1.png")
    (dataset / "fish").symlink_to(dataset / "cat")
    (dataset / "loose.png").write_bytes(png(noise(8, 8)))
    os.mkfifo(dataset / "cat" / "pipe.png")
    assert len(scan(dataset, out)) == 3
    assert rejects(out) == {
        "cat/link.png": "symlink",
        "cat/pipe.png": "wrong_type",
        "fish": "symlink",
        "loose.png": "no_class_folder",
    }


def test_rejects_are_sorted_and_say_more_than_a_code(dataset, out):
    for name, (content, _) in BAD.items():
        (dataset / "cat" / name).write_bytes(content)
    scan(dataset, out)
    listed = json.loads((out / "rejects.json").read_text())
    assert [r["path"] for r in listed] == sorted(f"cat/{name}" for name in BAD)
    assert all(r["detail"] for r in listed)
    assert json.loads((out / "scan.json").read_text())["rejects"] == len(BAD)


@contextmanager
def unprivileged():
    """Act as nobody where the tests run as root, whom permissions do not stop."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_permissions_that_forbid_reading_are_a_reason():
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "set", Path(folder) / "out"
        fill(root, "cat/1.png", "cat/2.png", "dog/1.png", "dog/closed/1.png")
        out.mkdir()
        out.chmod(0o777)
        Path(folder).chmod(0o755)
        (root / "cat" / "2.png").chmod(0)
        (root / "dog" / "closed").chmod(0)
        scan(root, out)  # whatever is imported late is imported by the owner
        for file in out.iterdir():
            file.chmod(0o666)
        with unprivileged():
            assert len(scan(root, out)) == 2
        (root / "dog" / "closed").chmod(stat.S_IRWXU)
        assert rejects(out) == {"cat/2.png": "permission", "dog/closed": "permission"}


def test_a_folder_without_a_usable_class_is_refused(tmp_path, out):
    assert "does not exist" in refusal(tmp_path / "absent", out)
    root = tmp_path / "set"
    root.mkdir()
    assert "no readable image" in refusal(root, out)
    (root / "1.png").write_bytes(png(noise(8, 8)))
    assert "1 no_class_folder); 1.png: beside the class folders" in refusal(root, out)
    fill(root, "cat/1.png")
    assert "one class, 'cat'" in refusal(root, out)
    (root / "dog").mkdir()
    assert "no readable image of class 'dog'" in refusal(root, out)
    (root / "dog" / "1.png").write_bytes(b"-")
    assert "1 wrong_type); expected one or more" in refusal(root, out)
    (root / "cat" / "1.png").write_bytes(b"")
    assert "no readable image of a class (rejected: 1 empty" in refusal(root, out)


# --- manifests and arrays


def test_a_csv_manifest(dataset, out):
    rows = "cat/1.png,03,g1,train\ncat/2.png,NA,g1,\ndog/1.png,03,g2,test\n"
    rows += "no/1.png,03,,\n../x.png,03,,"
    (dataset / "items.csv").write_text(f"path,label,group,split\n{rows}\n")
    manifest = scan(dataset / "items.csv", out)
    assert manifest.class_names == ("03", "NA")
    assert list(manifest.items["id"]) == ["cat/1.png", "cat/2.png", "dog/1.png"]
    assert list(manifest.items["label"]) == [0, 1, 0]
    assert list(manifest.items["group"]) == ["g1", "g1", "g2"]
    assert list(manifest.items["given_split"]) == ["train", "", "test"]
    assert rejects(out) == {"no/1.png": "missing", "../x.png": "path_escape"}


def test_a_parquet_manifest(dataset, out):
    rows = {"path": ["cat/1.png", "dog/1.png"], "label": ["cat", "dog"]}
    pd.DataFrame(rows).to_parquet(dataset / "items.parquet")
    assert list(scan(dataset / "items.parquet", out).items["label"]) == [0, 1]


def test_a_folder_named_like_a_picture_is_no_picture(dataset, out):
    (dataset / "x.png").mkdir()
    rows = "cat/1.png,cat\ndog/1.png,dog\nx.png,dog\n"
    (dataset / "items.csv").write_text(f"path,label\n{rows}")
    scan(dataset / "items.csv", out)
    assert rejects(out) == {"x.png": "wrong_type"}


def test_arrays(tmp_path, out):
    images, labels = noise(4, 12, 9, 3), np.array([1, 0, 1, 0])
    file = tmp_path / "set.npz"
    np.savez(file, images=images, labels=labels, class_names=np.array(["z", "a"]))
    manifest = scan(file, out)
    assert manifest.class_names == ("z", "a")
    assert list(manifest.items["label"]) == [1, 0, 1, 0]
    assert list(manifest.items["id"]) == sorted(f"set.npz#00000{i}" for i in range(4))
    assert set(manifest.items["format"]) == {"array"} and set(manifest.items["mode"]) == {"RGB"}
    assert set(manifest.items["sha256"]) == {hashlib.sha256(file.read_bytes()).hexdigest()}
    assert np.array_equal(on_disk(out)[:], [from_array(image, SPEC) for image in images])
    pixels = hashlib.sha256(b"9x12" + images[2].tobytes()).hexdigest()
    assert manifest.items["content"][2] == pixels


def test_arrays_with_a_class_without_items_are_refused(tmp_path, out):
    np.savez(
        tmp_path / "set.npz",
        images=noise(2, 8, 8),
        labels=np.array([0, 1]),
        class_names=np.array(["a", "b", "c"]),
    )
    assert "no readable image of class 'c'" in refusal(tmp_path / "set.npz", out)


def test_a_file_of_another_kind_is_refused(tmp_path, out):
    (tmp_path / "set.zip").write_bytes(b"-")
    assert "is no dataset; expected a folder" in refusal(tmp_path / "set.zip", out)


# --- what others ask


def has_colour(dataset):
    settings = ImageSettings(channels="auto")
    spec = tiny.MODALITY.specify(settings, [scanning.contents(dataset, tiny.MODALITY)])
    return spec.channels == 3


def test_auto_channels_read_headers_only(dataset, tmp_path):
    (dataset / "cat" / "bad.png").write_bytes(b"-")
    assert not has_colour(dataset)
    (dataset / "dog" / "2.png").write_bytes(png(noise(8, 8, 3))[:60])  # a header and no pixels
    assert has_colour(dataset)
    for colour in (False, True):
        images = noise(2, 8, 8, 3) if colour else noise(2, 8, 8)
        np.savez(tmp_path / "set.npz", images=images)
        assert has_colour(tmp_path / "set.npz") is colour
    with pytest.raises(DataRefusedError, match="does not exist"):
        has_colour(tmp_path / "absent")


def test_images_that_disagree_with_the_scan_are_refused(dataset, out):
    with pytest.raises(DataRefusedError, match="holds no scan"):
        on_disk(out)
    scan(dataset, out)
    with (out / "records.bin").open("ab") as file:
        file.write(b"-")
    with pytest.raises(DataRefusedError, match="193 bytes; expected 192"):
        on_disk(out)


def test_what_a_listing_leaves_out_is_reported_without_reading(dataset):
    assert scanning.left_out(dataset, tiny.MODALITY) == []
    (dataset / "cat" / "link.png").symlink_to(dataset / "cat" / "1.png")
    (dataset / "dog" / ".DS_Store").write_bytes(b"-")
    assert scanning.left_out(dataset, tiny.MODALITY) == [
        "cat/link.png: symlink",
        "dog/.DS_Store: hidden",
    ]
    with pytest.raises(DataRefusedError):
        scanning.left_out(dataset / "missing", tiny.MODALITY)
