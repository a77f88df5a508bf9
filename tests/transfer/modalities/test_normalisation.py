"""Standardised batches against NumPy, whatever the device, the channels and the precision."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.modalities.normalisation import Normalisation

RGB = Normalisation(mean=(0.2, 0.5, 0.9), std=(0.1, 0.2, 0.4))


def test_a_standardised_batch_is_that_of_numpy():
    pixels = np.random.default_rng(0).random((4, 3, 5, 5))
    expected = (pixels - np.reshape(RGB.mean, (3, 1, 1))) / np.reshape(RGB.std, (3, 1, 1))
    found = RGB.apply(torch.from_numpy(pixels).float()).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@given(st.floats(0, 1), st.floats(1 / 255, 1))
def test_the_mean_goes_to_0_and_a_standard_deviation_above_it_to_1(mean, std):
    normal = Normalisation(mean=(mean,), std=(std,))
    pixels = torch.tensor([mean, mean + std]).view(2, 1, 1, 1)
    found = normal.apply(pixels).flatten().tolist()
    assert found == pytest.approx([0, 1], abs=1e-4)


def test_a_batch_of_none_stays_one():
    assert RGB.apply(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)


def test_the_pixels_that_were_handed_in_are_left_alone():
    pixels = torch.rand(2, 3, 4, 4)
    before = pixels.clone()
    RGB.apply(pixels)
    assert torch.equal(pixels, before)


def test_it_survives_a_card():
    assert Normalisation.model_validate_json(RGB.model_dump_json()) == RGB


def test_it_is_a_frozen_group_without_other_fields():
    with pytest.raises(ValueError, match="frozen"):
        RGB.mean = (0.0,)
    with pytest.raises(ValueError, match="median"):
        Normalisation(mean=(0.0,), std=(1.0,), median=(0.5,))
