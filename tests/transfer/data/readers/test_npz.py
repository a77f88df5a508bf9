import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transfer import tiny
from transfer.core.errors import DataRefusedError
from transfer.data.readers.npz import header, load_arrays
from transfer.modalities.image.spec import ImageLimits

LIMITS = ImageLimits()
GOOD = {
    "images": np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5),
    "labels": np.array([1, 0, 1]),
    "class_names": np.array(["zebra", "ant"]),
}


def saved(folder, **change):
    file = folder / "set.npz"
    arrays = {k: v for k, v in (GOOD | change).items() if v is not None}
    np.savez(file, **arrays)
    return file


def refusal(file, limits=LIMITS):
    with pytest.raises(DataRefusedError) as caught:
        load_arrays(file, limits, tiny.MODALITY)
    return str(caught.value)


def test_entries_are_the_rows_and_names_keep_their_order(tmp_path):
    found = load_arrays(saved(tmp_path), LIMITS, tiny.MODALITY)
    assert found.listing.class_names == ("zebra", "ant")
    assert [(e.id, e.label, e.group, e.split) for e in found.listing.entries] == [
        ("set.npz#000000", "ant", "", ""),
        ("set.npz#000001", "zebra", "", ""),
        ("set.npz#000002", "ant", "", ""),
    ]
    assert np.array_equal(found.rows, GOOD["images"])


def test_groups_and_splits_come_along(tmp_path):
    file = saved(tmp_path, groups=np.array([7, 7, 9]), split=np.array(["train", "", "test"]))
    entries = load_arrays(file, LIMITS, tiny.MODALITY).listing.entries
    assert [(e.group, e.split) for e in entries] == [("7", "train"), ("7", ""), ("9", "test")]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_last_and_compressed(tmp_path, channels):
    images = np.zeros((3, 4, 5, channels), np.uint8)
    np.savez_compressed(tmp_path / "set.npz", **GOOD | {"images": images})
    assert load_arrays(tmp_path / "set.npz", LIMITS, tiny.MODALITY).rows.shape == images.shape
    assert header(tmp_path / "set.npz", "images") == (images.shape, "uint8")


NAN = np.full((3, 4, 5), np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": NAN}, "'images' is float32 (3, 4, 5) with 60 NaN; expected uint8"),
        ({"images": NAN[0]}, "'images' is float32 (4, 5)"),
        ({"images": np.zeros((3, 4, 5, 2), np.uint8)}, "'images' is uint8 (3, 4, 5, 2)"),
        ({"images": np.zeros((3, 0, 5), np.uint8)}, "'images' is (3, 0, 5)"),
        ({"labels": np.array([0, 1])}, "'labels' is int64 (2,); expected integers (3,)"),
        ({"labels": np.array([0.0, 1, 1])}, "'labels' is float64 (3,)"),
        ({"labels": np.array([0, 1, 2])}, "'labels' has values from 0 to 2; expected 0 to 1"),
        ({"labels": np.array([-1, 1, 0])}, "'labels' has values from -1 to 1"),
        ({"class_names": np.array([1, 2])}, "'class_names' is int64 (2,); expected strings"),
        ({"class_names": np.array(["a", "a"])}, "expected different names"),
        ({"class_names": np.array(["a", ""])}, "none empty"),
        ({"class_names": np.array([], "U1")}, "'class_names' is"),
        ({"class_names": None}, "lacks the array class_names; found images, labels"),
        ({"groups": np.array(["a"])}, "'groups' is <U1 (1,)"),
        ({"group": np.array(["a"])}, "holds 'group'; expected 'groups': rename it"),
        ({"split": np.array(["train", "dev", ""])}, "'split' holds ['dev']; expected train"),
    ],
)
def test_a_wrong_array_is_named_with_what_was_expected(tmp_path, change, told):
    message = refusal(saved(tmp_path, **change))
    assert told in message and "set.npz" in message


def test_pickles_are_never_loaded(tmp_path):
    file = saved(tmp_path, class_names=np.array(["a", "b"], dtype=object))
    assert "without pickled objects" in refusal(file)


def test_what_is_no_npz(tmp_path):
    (tmp_path / "text.npz").write_text("text")
    assert "not a readable .npz" in refusal(tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", GOOD["images"])
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    assert "not a readable .npz" in refusal(tmp_path / "one.npz")
    assert header(tmp_path / "text.npz", "images") is None


def test_bombs_are_refused_before_they_unpack(tmp_path):
    file = tmp_path / "set.npz"
    np.savez_compressed(file, **GOOD | {"images": np.zeros((3, 2000, 2000), np.uint8)})
    assert file.stat().st_size < 100_000
    assert "unpacks to" in refusal(file, ImageLimits(max_array_bytes=10**7))
    assert "at most 1000 are allowed" in refusal(file, ImageLimits(max_pixels=1000))
    assert "a side needs 3000" in refusal(file, ImageLimits(min_side=3000))


def test_a_header_that_lies_about_its_size(tmp_path):
    member = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 100, 100)}
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(saved(tmp_path, images=None), "a") as archive:
        archive.writestr("images.npy", member.getvalue())
    assert "not a readable .npz" in refusal(tmp_path / "set.npz")


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damage_ends_in_arrays_or_a_refusal(tmp_path_factory, data):
    file = saved(tmp_path_factory.mktemp("npz"))
    whole = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    header(file, "images")
    try:
        assert len(load_arrays(file, LIMITS, tiny.MODALITY).rows) == 3
    except DataRefusedError as error:
        assert str(file) in str(error)
