"""Whatever lies in transfer/modalities/image/backbones/ turns pictures into features, the same way
every time."""

import inspect

import pytest
import torch

from tests.transfer import tiny
from transfer.core import plugins
from transfer.modalities.backbone import Backbone, BackboneSpec
from transfer.modalities.image.networks.imagenet import MissingPackageError, Wrapped
from transfer.modalities.image.settings import BACKBONES, trainable
from transfer.models.network import build

NAMES = plugins.names(BACKBONES)
every_backbone = pytest.mark.parametrize("name", NAMES)
OWN = pytest.mark.parametrize("name", trainable())


def quick(name):
    """Options with which a backbone takes milliseconds: narrow, or pictures resized to 32 px."""
    if name in trainable():
        return [{"width": 4, "pool": pool} for pool in (True, False)]
    sized = "size" in inspect.signature(plugins.load(BACKBONES, name).build).parameters
    return [{"size": 32} if sized else {}]


SETTINGS = [BackboneSpec(name=name, options=options) for name in NAMES for options in quick(name)]
every_setting = pytest.mark.parametrize("settings", SETTINGS, ids=repr)


def backbone_spec(settings, channels=1, seed=0):
    try:
        return build(settings, spec=tiny.spec(channels), classes=3, seed=seed).backbone.eval()
    except MissingPackageError as error:
        pytest.skip(str(error))


def noise(n, channels, side):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(side))


@every_backbone
def test_it_says_what_it_is(name):
    module = plugins.load(BACKBONES, name)
    assert len(module.__doc__) > 30
    first, *options = inspect.signature(module.build).parameters.values()
    assert first.name == "channels"
    assert all(option.default is not option.empty for option in options)


@every_setting
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 29, 40, 64])
def test_pictures_of_any_allowed_size_become_features(settings, channels, side):
    net = backbone_spec(settings, channels)
    assert isinstance(net, Backbone)
    with torch.no_grad():
        found = net(noise(2, channels, side))
    assert found.shape == (2, net.out_features)
    assert found.isfinite().all() and found.std() > 0
    assert not torch.equal(found[0], found[1])


@every_setting
@pytest.mark.parametrize("channels", [1, 3])
def test_the_normalisation_it_asks_for_fits_its_pictures(settings, channels):
    normal = backbone_spec(settings, channels).normal
    if normal is not None:
        assert len(normal.mean) == len(normal.std) == channels
        assert all(0 <= mean <= 1 for mean in normal.mean) and all(std > 0 for std in normal.std)


@every_setting
def test_its_stages_cover_every_parameter_once(settings):
    net = backbone_spec(settings)
    staged = [p for stage in net.stages() for p in stage.parameters()]
    assert sorted(map(id, staged)) == sorted(map(id, net.parameters()))
    assert all(len(list(stage.parameters())) for stage in net.stages())


@every_setting
def test_its_stages_run_from_input_to_output(settings):
    net, order = backbone_spec(settings), []
    for i, stage in enumerate(net.stages()):
        stage.register_forward_hook(lambda *_, i=i: order.append(i))
    with torch.no_grad():
        net(noise(2, 1, 28))
    assert order == list(range(len(net.stages())))


@every_setting
def test_its_weights_depend_on_the_seed_alone(settings):
    torch.manual_seed(5)
    one = backbone_spec(settings)
    torch.manual_seed(6)
    two, other = backbone_spec(settings), backbone_spec(settings, seed=1)
    assert tiny.same(one.state_dict(), two.state_dict())
    assert not tiny.same(one.state_dict(), other.state_dict())


@every_setting
def test_a_picture_is_judged_by_itself_and_in_any_memory_format(settings):
    net, images = backbone_spec(settings), noise(4, 1, 28)
    with torch.no_grad():
        whole = net(images)
        alone = torch.cat([net(images[i : i + 1]) for i in range(4)])
        last = net.to(memory_format=torch.channels_last)(
            images.contiguous(memory_format=torch.channels_last)
        )
    torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, whole, rtol=1e-4, atol=1e-5)


@every_setting
def test_every_parameter_learns(settings):
    net = backbone_spec(settings).train()
    if isinstance(net, Wrapped):
        pytest.skip("some packages start layers at zero, so that those before them wait")
    net(noise(8, 1, 28)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@OWN
def test_width_sets_its_size(name):
    sizes = [
        sum(
            p.numel()
            for p in backbone_spec(
                BackboneSpec(name=name, options={"width": w, "pool": True})
            ).parameters()
        )
        for w in (4, 8)
    ]
    assert 3 < sizes[1] / sizes[0] < 5
