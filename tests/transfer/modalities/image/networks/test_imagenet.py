"""Pictures as networks of ImageNet take them: their size, their channels, their statistics."""

from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.transfer import tiny
from transfer.core.errors import CrosstrainError
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.image.networks.imagenet import IMAGENET, ImageNetBackbone, Wrapped, grey
from transfer.models.network import build


def pixels(channels, side, n=2):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(side))


def test_grey_becomes_three_channels_each_with_its_own_standardisation():
    bare, given = ImageNetBackbone(1, 12, IMAGENET), pixels(1, 12)
    found = bare.adapted(bare.normal.apply(given)).numpy()
    for i in range(3):
        expected = (given[:, 0].numpy() - IMAGENET.mean[i]) / IMAGENET.std[i]
        np.testing.assert_allclose(found[:, i], expected, rtol=1e-4, atol=1e-5)


def test_colour_of_the_right_size_passes_as_it_is():
    bare, given = ImageNetBackbone(3, 12, IMAGENET), pixels(3, 12)
    assert bare.normal == IMAGENET
    assert torch.equal(bare.adapted(given), given)


@pytest.mark.parametrize("side", [5, 12, 30])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_becomes_the_networks_own(channels, side):
    bare = ImageNetBackbone(channels, 12, IMAGENET)
    assert bare.adapted(pixels(channels, side)).shape == (2, 3, 12, 12)


def test_a_fine_pattern_is_shrunk_to_its_mean():
    """Without a filter, every second row of a striped picture would be dropped."""
    stripes = torch.zeros(1, 3, 48, 48)
    stripes[:, :, ::2] = 1.0
    found = ImageNetBackbone(3, 12, IMAGENET).adapted(stripes)
    torch.testing.assert_close(found[:, :, 3:-3], torch.full((1, 3, 6, 12), 0.5), atol=0.02, rtol=0)


def test_the_correction_of_grey_is_no_part_of_the_weights():
    assert not ImageNetBackbone(1, 12, IMAGENET).state_dict()


def test_grey_statistics_are_the_means_of_the_channels():
    np.testing.assert_allclose(grey(IMAGENET).mean, [np.mean(IMAGENET.mean)])
    np.testing.assert_allclose(grey(IMAGENET).std, [np.mean(IMAGENET.std)])


class Direct(nn.Module):
    """A network that holds a parameter itself."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.ones(3))
        self.inner = nn.Linear(3, 4)

    def forward(self, images):
        return self.inner(images.mean((2, 3)) + self.token)


def test_a_foreign_network_gives_its_features_and_its_stages():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
    net = nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    wrapped, given = Wrapped(3, 12, IMAGENET, net, 5), pixels(3, 12)
    assert wrapped.stages() == [layers[0], layers[2]]
    expected = functional.relu(layers[0](given))
    torch.testing.assert_close(wrapped(given), layers[2](expected).mean((2, 3)))


def test_a_foreign_network_draws_no_dice_in_training():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(432, 2))
    wrapped = Wrapped(3, 12, IMAGENET, net, 2).train()
    assert torch.equal(wrapped(pixels(3, 12)), wrapped(pixels(3, 12)))


def test_a_foreign_network_with_parameters_of_its_own_is_one_stage():
    net = Direct()
    assert Wrapped(3, 12, IMAGENET, net, 4).stages() == [net]


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_package_that_is_not_there_or_broken_is_a_named_error(package):
    try:
        import_module(package)
    except Exception:
        with pytest.raises(CrosstrainError, match=rf"{package} cannot be .*crosstrain\[zoo\]"):
            build(BackboneSpec(name=f"{package}_model"), spec=tiny.spec(3), classes=2, seed=0)
    else:
        assert build(BackboneSpec(name=f"{package}_model"), spec=tiny.spec(3), classes=2, seed=0)
