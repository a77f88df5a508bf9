import io
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import ExifTags, Image
from pydantic import ValidationError

from transfer.core.errors import DataRefusedError
from transfer.modalities.image.decoding.decode import (
    decode,
    from_array,
    from_pixels,
    stored_in_colour,
    to_tensor,
)
from transfer.modalities.image.spec import ImageLimits, ImageSpec
from transfer.modalities.interface import Unreadable

LIMITS = ImageLimits()
FORMATS = {"PNG": {}, "JPEG": {}, "BMP": {}, "GIF": {}, "WEBP": {"lossless": True}, "TIFF": {}}
RGB = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
ALPHA = RGB[:, :, 1]


def written(image, form, **options):
    """The bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def pixels(data):
    """Decoded pixels, H x W or H x W x 3."""
    return np.asarray(decode(data, LIMITS).image)


def refused(data, limits=LIMITS):
    """The reason for which the data are not read."""
    with pytest.raises(Unreadable) as caught:
        decode(data, limits)
    assert caught.value.detail and caught.value.reason in str(caught.value)
    return caught.value.reason


def on_white(colour, alpha):
    share = (alpha / 255.0)[..., None] if colour.ndim == 3 else alpha / 255.0
    return colour * share + 255 * (1 - share)


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP", "TIFF"])
def test_lossless_formats_give_back_rgb_pixels(form):
    data = written(Image.fromarray(RGB), form, **FORMATS[form])
    picture = decode(data, LIMITS)
    assert (picture.mode, picture.format, picture.image.mode) == ("RGB", form, "RGB")
    assert np.array_equal(np.asarray(picture.image), RGB)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_back_grey_pixels(form):
    picture = decode(written(Image.fromarray(GREY), form), LIMITS)
    assert (picture.mode, picture.image.mode) == ("L", "L")
    assert np.array_equal(np.asarray(picture.image), GREY)


def test_jpeg_keeps_grey_grey_and_smooth_colours_close():
    ramp = np.linspace(0, 255, 48).astype(np.uint8)
    smooth = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], ramp[::-1, None]), axis=2)
    options = {"quality": 95, "subsampling": 0}
    assert (
        np.abs(
            pixels(written(Image.fromarray(smooth), "JPEG", **options)) - smooth.astype(int)
        ).max()
        < 12
    )
    assert pixels(written(Image.fromarray(smooth[..., 0]), "JPEG")).ndim == 2


def test_gif_palette_gives_rgb_of_its_first_frame():
    frames = [Image.new("RGB", (9, 12), colour) for colour in ("red", "blue")]
    data = written(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, LIMITS).mode == "P"
    assert np.array_equal(pixels(data), np.full((12, 9, 3), (255, 0, 0)))


@pytest.mark.parametrize(("form", "named"), [("MPO", "MPO"), ("WEBP", "WEBP"), ("TIFF", "TIFF")])
def test_the_first_of_many_frames_counts(form, named):
    frames = [Image.new("RGB", (9, 12), colour) for colour in ("red", "blue")]
    picture = decode(written(frames[0], form, save_all=True, append_images=frames[1:]), LIMITS)
    assert picture.format == named
    assert np.abs(np.asarray(picture.image).astype(int) - (255, 0, 0)).max() < 8


def test_rgba_is_laid_on_white():
    image = Image.fromarray(np.dstack([RGB, ALPHA]))
    found = pixels(written(image, "PNG"))
    assert np.abs(found - on_white(RGB, ALPHA)).max() <= 1


def test_la_is_laid_on_white_and_stays_grey():
    image = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    found = pixels(written(image, "PNG"))
    assert found.ndim == 2 and np.abs(found - on_white(GREY, ALPHA)).max() <= 1


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 255])])
def test_transparent_palette_entries_show_white(transparency):
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    found = pixels(written(image, "PNG", transparency=transparency))
    assert found.tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize(
    ("mode", "colour", "clear"), [("L", 7, 7), ("RGB", (1, 2, 3), (1, 2, 3)), ("1", 0, 0)]
)
def test_the_colour_that_png_calls_transparent_shows_white(mode, colour, clear):
    data = written(Image.new(mode, (3, 2), colour), "PNG", transparency=clear)
    assert (pixels(data) == 255).all()


def test_transparent_16_bit_grey_shows_white():
    image = Image.fromarray(np.array([[0, 257, 65535]], np.uint16))
    assert pixels(written(image, "PNG", transparency=257)).tolist() == [[0, 255, 255]]


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_one_bit_gives_black_and_white(form):
    picture = decode(written(Image.fromarray(GREY > 127), form), LIMITS)
    assert picture.mode == "1" and picture.image.mode == "L"
    assert np.array_equal(np.asarray(picture.image), np.where(GREY > 127, 255, 0))


@pytest.mark.parametrize(
    ("form", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32)]
)
def test_16_bit_grey_is_scaled_not_clipped(form, dtype):
    deep = np.linspace(0, 65535, 108).reshape(12, 9).astype(dtype)
    picture = decode(written(Image.fromarray(deep), form), LIMITS)
    assert picture.mode in ("I;16", "I") and picture.image.mode == "L"
    assert np.array_equal(np.asarray(picture.image), np.rint(deep / 257))


def test_big_endian_16_bit_tiff():
    deep = np.array([[0, 0x0102, 0xFFFF]], np.uint16)
    entries = [(256, 4, 3), (257, 4, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    entries += [(277, 3, 1), (278, 4, 1), (279, 4, 6)]
    head = b"MM\0*" + (14).to_bytes(4, "big") + deep.astype(">u2").tobytes()
    table = len(entries).to_bytes(2, "big")
    for tag, kind, value in entries:
        field = value.to_bytes(2, "big") + b"\0\0" if kind == 3 else value.to_bytes(4, "big")
        table += tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + (1).to_bytes(4, "big") + field
    picture = decode(head + table + bytes(4), LIMITS)
    assert picture.mode == "I;16B"
    assert np.asarray(picture.image).tolist() == [[0, 1, 255]]


@pytest.mark.parametrize("top", [1, 255])
def test_floats_within_0_1_or_0_255(top):
    real = (np.linspace(0, top, 108).reshape(12, 9)).astype(np.float32)
    found = pixels(written(Image.fromarray(real), "TIFF"))
    assert np.array_equal(found, np.rint(real * (255 / top)))


@pytest.mark.parametrize(
    ("value", "reason"),
    [(np.nan, "not_finite"), (np.inf, "not_finite"), (-1.0, "out_of_range"), (256, "out_of_range")],
)
def test_floats_that_are_no_grey_level(value, reason):
    real = np.zeros((4, 4), np.float32)
    real[1, 2] = value
    assert refused(written(Image.fromarray(real), "TIFF")) == reason


@pytest.mark.parametrize("value", [-1, 65536])
def test_integers_that_are_no_16_bit_grey(value):
    data = written(Image.fromarray(np.full((4, 4), value, np.int32)), "TIFF")
    assert refused(data) == "out_of_range"


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_gives_rgb(form):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    picture = decode(written(cyan, form), LIMITS)
    assert (picture.mode, picture.image.mode) == ("CMYK", "RGB")
    assert np.abs(np.asarray(picture.image).astype(int) - (0, 255, 255)).max() < 4


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "PA"])
def test_other_tiff_modes_give_rgb(mode):
    image = Image.new("RGB", (8, 8), (102, 153, 102))  # in the web palette
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    picture = decode(written(image, "TIFF"), LIMITS)
    assert (picture.mode, picture.image.mode) == (mode, "RGB")
    assert np.abs(np.asarray(picture.image).astype(int) - (102, 153, 102)).max() < 4


TURNS = {  # the stored pixels from the upright ones, in NumPy's words
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_undone(form, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNS[orientation](RGB)))
    assert np.array_equal(pixels(written(stored, form, exif=exif, **FORMATS[form])), RGB)


def test_exif_rotated_jpeg_comes_upright():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:, :16] = 255  # white left, black right
    data = written(Image.fromarray(np.ascontiguousarray(np.rot90(upright))), "JPEG", exif=exif)
    found = pixels(data)
    assert found.shape == (16, 32, 3)
    assert found[:, :15].min() > 240 and found[:, 17:].max() < 15


def test_damaged_exif_does_not_cost_the_picture():
    data = written(Image.fromarray(RGB), "PNG", exif=b"Exif\0\0MM\0*nonsense")
    assert np.array_equal(pixels(data), RGB)


def test_empty_text_and_foreign_data():
    assert refused(b"") == "empty"
    assert refused(b"this is a text file\n") == "wrong_type"
    assert refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "wrong_type"
    assert refused(b"P6 2 2 255\n" + bytes(12)) == "wrong_type"


@pytest.mark.parametrize("form", FORMATS)
def test_half_a_file_is_truncated(form):
    data = written(Image.fromarray(RGB.repeat(5, 0).repeat(5, 1)), form, **FORMATS[form])
    assert refused(data[: len(data) // 2 + 100 * (form == "GIF")]) == "truncated"


def test_a_damaged_header_is_unreadable():
    data = written(Image.fromarray(RGB), "PNG")
    assert refused(data[:12] + b"XXXX" + data[16:]) == "unreadable"


def bomb(width, height):
    """A PNG of a few bytes whose header announces a giant."""
    data = bytearray(written(Image.new("L", (1, 1)), "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("size", [(8000, 8000), (10_000, 10_000), (60_000, 60_000)])
def test_bombs_are_refused_by_their_header(size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(bomb(*size)) == "too_many_pixels"
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


def test_limits_are_those_given():
    data = written(Image.fromarray(RGB), "PNG")
    assert refused(data, ImageLimits(max_bytes=len(data) - 1)) == "too_large"
    assert refused(data, ImageLimits(max_pixels=107)) == "too_many_pixels"
    assert refused(data, ImageLimits(min_side=10)) == "too_small"
    exact = ImageLimits(max_bytes=len(data), max_pixels=108, min_side=9)
    assert decode(data, exact).image.size == (9, 12)


@settings(max_examples=150, deadline=None)
@given(form=st.sampled_from(sorted(FORMATS)), data=st.data())
def test_damage_ends_in_a_picture_or_a_reason(form, data):
    whole = bytearray(written(Image.fromarray(RGB), form, **FORMATS[form]))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            assert decode(cut, ImageLimits(max_pixels=10**6)).image.mode in ("L", "RGB")
        except Unreadable as why:
            assert why.reason in {"empty", "wrong_type", "truncated", "unreadable"} | {
                "too_many_pixels",
                "too_small",
            }


def test_stored_in_colour_reads_headers(tmp_path):
    for mode, expected in {"L": False, "1": False, "LA": False, "RGB": True, "P": True}.items():
        file = tmp_path / f"{mode}.png"
        Image.new(mode, (4, 4)).save(file)
        assert stored_in_colour(file) is expected, mode
    (tmp_path / "text.png").write_text("text")
    assert not stored_in_colour(tmp_path / "text.png")
    assert not stored_in_colour(tmp_path / "absent.png")


# --- arrays and tensors


@settings(max_examples=60, deadline=None)
@given(
    array=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)).flatmap(
        lambda grey: st.sampled_from([grey, grey[..., None], np.stack([grey, grey // 2, grey], 2)])
    ),
    channels=st.sampled_from([1, 3]),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
)
def test_arrays_and_files_of_the_same_pixels_are_the_same_tensor(array, channels, fit):
    spec = ImageSpec(size=8, channels=channels, fit=fit)
    image = Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)
    from_file = to_tensor(decode(written(image, "PNG"), LIMITS), spec)
    assert from_file.shape == (channels, 8, 8) and from_file.dtype == np.uint8
    assert np.array_equal(from_array(array, spec), from_file)


def test_opacity_in_an_array_and_in_a_file_are_the_same():
    array, spec = np.dstack([RGB, ALPHA]), ImageSpec(size=16, channels=3)
    from_file = to_tensor(decode(written(Image.fromarray(array), "PNG"), LIMITS), spec)
    assert np.array_equal(from_array(array, spec), from_file)


def test_grey_to_rgb_repeats_the_channel():
    tensor = from_array(GREY[:9], ImageSpec(size=9, channels=3))
    assert all(np.array_equal(channel, GREY[:9]) for channel in tensor)


def test_rgb_to_grey_is_itu_601():
    tensor = from_array(RGB[:9], ImageSpec(size=9, channels=1))
    assert np.abs(tensor[0] - RGB[:9] @ [0.299, 0.587, 0.114]).max() <= 0.51


def test_a_grey_copy_in_rgb_gives_the_same_tensor():
    for channels in (1, 3):
        spec = ImageSpec(size=8, channels=channels)
        twice = np.stack([GREY] * 3, axis=2)
        assert np.array_equal(from_array(GREY, spec), from_array(twice, spec))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4), np.float32), "wrong_type"),
        (np.zeros((4, 4, 2), np.uint8), "wrong_type"),
        (np.zeros(4, np.uint8), "wrong_type"),
        (np.zeros((0, 4), np.uint8), "empty"),
    ],
)
def test_arrays_that_are_no_picture(array, reason):
    with pytest.raises(DataRefusedError) as caught:
        from_pixels(array)
    assert caught.value.reason == reason


@pytest.mark.parametrize("bad", [{"size": 7}, {"size": 513}, {"channels": 2}, {"fit": "zoom"}])
def test_the_spec_refuses_what_it_cannot_do(bad):
    with pytest.raises(ValidationError):
        ImageSpec(**{"size": 28, "channels": 1} | bad)
