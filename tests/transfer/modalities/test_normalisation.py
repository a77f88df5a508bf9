"""Statistics a channel are applied to batches of the kind they were measured on, and no other."""

import numpy as np
import pytest
import torch

from transfer.core.errors import DataRefusedError
from transfer.modalities.normalisation import Normalisation

MEAN, STD = (0.5, 0.25), (2.0, 4.0)


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 7), (3, 2, 5, 7)])
def test_each_channel_is_standardised_by_its_own_numbers(shape: tuple[int, ...]) -> None:
    batch = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    result = Normalisation(mean=MEAN, std=STD, dims=len(shape)).apply(batch).numpy()
    for channel in range(2):
        expected = (batch.numpy()[:, channel] - MEAN[channel]) / STD[channel]
        np.testing.assert_allclose(result[:, channel], expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 1, 100), (2, 3, 4, 4), (2, 1), (2, 2, 4, 4, 4)])
def test_a_batch_of_another_shape_is_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataRefusedError) as error:
        Normalisation(mean=(0.4,), std=(0.3,)).apply(torch.zeros(shape))
    assert str(shape) in str(error.value) and "(N, 1, ...)" in str(error.value)


def test_without_numbers_inputs_of_any_kind_stay_as_they_are() -> None:
    tokens = torch.arange(6).view(2, 3)
    assert Normalisation.none().apply(tokens) is tokens
    assert Normalisation.model_validate_json(Normalisation.none().model_dump_json()).mean == ()


def test_as_many_means_as_deviations_are_expected() -> None:
    with pytest.raises(ValueError, match="found 1 means and 2 standard deviations"):
        Normalisation(mean=(0.0,), std=(1.0, 1.0))
