import numpy as np
import pytest
from PIL import Image

from transfer.modalities.image.decoding.resize import FITS, crop, pad, stretch

RNG = np.random.default_rng(0)


def keys(distance, a=-0.5):
    """Keys' cubic kernel (1981)."""
    x = np.abs(distance)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def weights(before, after):
    """Antialiased cubic resampling as a matrix: the kernel widens when a side shrinks."""
    scale = before / after
    centre = (np.arange(after)[:, None] + 0.5) * scale
    kernel = keys((np.arange(before) + 0.5 - centre) / max(scale, 1))
    return kernel / kernel.sum(axis=1, keepdims=True)


def resized(array, height, width):
    return weights(array.shape[0], height) @ array @ weights(array.shape[1], width).T


def noise(shape):
    """Middle greys, so that no overshoot is cut off between or after the two passes."""
    return RNG.integers(80, 176, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(30, 44), (9, 7), (16, 16), (100, 8)])
def test_stretch_is_antialiased_bicubic(shape):
    array = noise(shape)
    found = np.asarray(stretch(Image.fromarray(array), 16))
    assert np.abs(found - resized(array.astype(float), 16, 16)).max() < 1.6


@pytest.mark.parametrize(("shape", "wide"), [((30, 50), True), ((50, 30), False)])
def test_crop_resizes_the_shorter_side_and_keeps_the_centre(shape, wide):
    array = noise(shape)
    found = np.asarray(crop(Image.fromarray(array), 15))
    full = resized(array.astype(float), 15, 25) if wide else resized(array.astype(float), 25, 15)
    assert np.abs(found - (full[:, 5:20] if wide else full[5:20])).max() < 1.6


def test_crop_of_the_right_height_moves_no_pixel():
    array = RNG.integers(0, 256, (28, 33), dtype=np.uint8)
    assert np.array_equal(np.asarray(crop(Image.fromarray(array), 28)), array[:, 2:30])


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_is_left_alone(fit):
    for shape in ((28, 28), (28, 28, 3)):
        array = RNG.integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(np.asarray(FITS[fit](Image.fromarray(array), 28)), array)


def test_pad_letterboxes_on_the_median_border_colour():
    array = np.full((10, 20, 3), (10, 20, 30), np.uint8)
    array[3:7, 5:15] = 200
    array[0, :4] = 255  # a bright corner moves the mean, and not the median
    found = np.asarray(pad(Image.fromarray(array), 20))
    assert np.array_equal(found[5:15], array)
    assert (found[:5] == (10, 20, 30)).all() and (found[15:] == (10, 20, 30)).all()


def test_pad_keeps_the_ratio():
    array = np.full((40, 10), 255, np.uint8)
    array[:, 4:6] = 0
    array[0] = array[-1] = 255
    found = np.asarray(pad(Image.fromarray(array), 20))
    assert found.shape == (20, 20)
    dark = np.flatnonzero(found[10] < 128)
    assert dark.tolist() == [9] or dark.tolist() == [9, 10] or dark.tolist() == [10]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (1, 1)])
def test_extreme_shapes_stay_small(fit, shape):
    found = np.asarray(FITS[fit](Image.fromarray(np.full(shape, 7, np.uint8)), 32))
    assert found.shape == (32, 32) and (found == 7).all()
