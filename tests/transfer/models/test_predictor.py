"""A model folder answers alike for files, bytes, arrays and tensors, and names what is wrong."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.transfer import tiny
from transfer.core.errors import DataRefusedError, ModelFileError
from transfer.modalities.image.spec import ImageLimits, ImageSpec
from transfer.modalities.normalisation import Normalisation
from transfer.models import predictor
from transfer.models.checkpoint import save_model
from transfer.models.predictor import Card, Member, tensor_name

NORMAL = {
    1: Normalisation(mean=(0.4,), std=(0.2,)),
    3: Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.2)),
}


def members(channels=1):
    """Two members, of two networks and of one."""
    how = {"backbone_spec": tiny.BODY, "normal": NORMAL[channels]}
    return (
        Member(arm="scratch/0", weight=0.3, temperature=0.7, networks=2, **how),
        Member(arm="l2_sp/1", weight=0.7, temperature=2.0, networks=1, **how),
    )


MEMBERS = members()


def with_backbone(**backbone_spec):
    """The first member, of another backbone."""
    return {**MEMBERS[0].model_dump(), "backbone_spec": backbone_spec}


def write(folder, channels=1, names=tiny.CLASSES, given=None):
    """A model of random weights, whose networks are numbered 10 * member + number."""
    folder.mkdir()
    parts = given or members(channels)
    state = {
        tensor_name(m, n, key): tensor
        for m, member in enumerate(parts)
        for n in range(member.networks)
        for key, tensor in tiny.network(len(names), channels, 10 * m + n).state_dict().items()
    }
    card = Card(
        target="hedge",
        class_names=names,
        spec=ImageSpec(size=tiny.SIDE, channels=channels),
        limits=ImageLimits(),
        members=parts,
    )
    save_model(folder, card, state)
    return folder


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def channels(request):
    return request.param


@pytest.fixture
def model(tmp_path, channels):
    return predictor.load(write(tmp_path / "model", channels))


def pixels(channels, n=5, side=tiny.SIDE):
    """(N, H, W) grey or (N, H, W, 3)."""
    shape = (n, side, side) if channels == 1 else (n, side, side, 3)
    return np.random.default_rng(side).integers(0, 256, shape, dtype=np.uint8)


def tensors(images):
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


def softmax(scores):
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_probabilities_are_the_weighted_sum_of_calibrated_committees(model, channels):
    images = tensors(pixels(channels))
    scaled = torch.from_numpy(images).double().div(255)
    mean, std = (
        torch.tensor(v).view(1, -1, 1, 1) for v in (NORMAL[channels].mean, NORMAL[channels].std)
    )
    expected = 0
    for m, member in enumerate(MEMBERS):
        scores = []
        for n in range(member.networks):
            net = tiny.network(3, channels, 10 * m + n).eval().double()
            with torch.no_grad():
                scores.append(net((scaled - mean) / std).numpy())
        expected = expected + member.weight * softmax(np.mean(scores, 0) / member.temperature)
    found = model.predict_records(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert found.std(0).min() > 1e-4


@pytest.mark.parametrize("side", [tiny.SIDE, 31])
def test_files_bytes_and_arrays_get_one_answer(model, channels, side, tmp_path):
    images = pixels(channels, side=side)
    paths = [tmp_path / f"été {i}.png" for i in range(5)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    by_file = model.predict_files(paths)
    assert np.array_equal(by_file, model.predict_bytes([path.read_bytes() for path in paths]))
    assert np.array_equal(by_file, model.predict_arrays(images))
    if side == tiny.SIDE:
        assert np.array_equal(by_file, model.predict_records(tensors(images)))


def test_an_answer_does_not_depend_on_its_neighbours(model, channels):
    images = pixels(channels)
    alone = np.concatenate([model.predict_arrays(images[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(alone, model.predict_arrays(images), atol=1e-6)


def test_many_items_are_cut_into_chunks(tmp_path):
    net = tiny.network().eval()
    images = torch.from_numpy(tensors(pixels(1, 7)))
    whole = predictor.committee_logits([net], images, NORMAL[1], tiny.spec())
    net.backbone.chunk = 3
    parts = predictor.committee_logits([net], images, NORMAL[1], tiny.spec())
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


def test_grey_and_colour_pictures_are_brought_to_what_the_model_expects(model, channels):
    other = pixels(3 if channels == 1 else 1)
    found = model.predict_arrays(other)
    if channels == 1:
        grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in other])
        assert np.array_equal(found, model.predict_arrays(grey))
    else:
        assert np.array_equal(found, model.predict_arrays(np.repeat(other[..., None], 3, 3)))


def test_columns_are_the_classes_of_the_card(model):
    assert model.class_names == model.card.class_names == tiny.CLASSES


def test_nothing_asked_is_nothing_answered(model, channels):
    for found in (
        model.predict_files([]),
        model.predict_bytes([]),
        model.predict_arrays(pixels(channels)[:0]),
    ):
        assert found.shape == (0, 3) and found.dtype == np.float32


def test_loading_twice_gives_the_same_bits_and_nothing_to_train(tmp_path):
    folder = write(tmp_path / "model")
    one, two = predictor.load(folder), predictor.load(folder)
    images = tensors(pixels(1))
    assert np.array_equal(one.predict_records(images), two.predict_records(images))
    for network in (net for member in one.networks for net in member):
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())


# what it refuses


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 12, 12)), np.zeros((12, 12), np.uint8), np.zeros((1, 2, 12, 12, 3), np.uint8)],
    ids=["float", "one picture", "five dimensions"],
)
def test_arrays_of_another_kind_are_refused(tmp_path, array):
    model = predictor.load(write(tmp_path / "model"))
    with pytest.raises(DataRefusedError, match=r"expected uint8\s+of shape"):
        model.predict_arrays(array)


def test_an_array_with_two_channels_is_refused(tmp_path):
    model = predictor.load(write(tmp_path / "model"))
    with pytest.raises(DataRefusedError, match="wrong_type"):
        model.predict_arrays(np.zeros((1, 12, 12, 2), np.uint8))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    model = predictor.load(write(tmp_path / "model"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataRefusedError, match=r"text\.png: wrong_type"):
        model.predict_files([tmp_path / "text.png"])
    with pytest.raises(DataRefusedError, match=r"gone\.png cannot be read: No such file"):
        model.predict_files([tmp_path / "gone.png"])
    with pytest.raises(DataRefusedError, match=r"item 0: empty"):
        model.predict_bytes([b""])


def rewritten(folder, **changes):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1},
        {"colour": True},
        {"members": "all"},
        {"members": [{"arm": "scratch/0", "weight": 1.0, "temperature": 1.0, "networks": 1}]},
        {"spec": {"size": 12, "channels": 2}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_card_of_another_version_is_a_named_error(tmp_path, changes):
    folder = rewritten(write(tmp_path / "model"), **changes)
    with pytest.raises(ModelFileError, match="not a model card of this version"):
        predictor.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": ["acer", "betula"]},
        {"members": [with_backbone(name="resnet", options={"width": 8})]},
        {"members": [with_backbone(name="vgg")]},
        {"members": [with_backbone(name="resnet", options={"depth": 8})]},
        {"spec": {"size": 12, "channels": 3}},
        {"members": [m.model_dump() for m in (*MEMBERS, MEMBERS[1])]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_weights_that_do_not_fit_the_card_are_a_named_error(tmp_path, changes):
    folder = rewritten(write(tmp_path / "model"), **changes)
    with pytest.raises(ModelFileError, match="do not fit its card"):
        predictor.load(folder)


def test_a_folder_without_a_model_is_a_named_error(tmp_path):
    with pytest.raises(ModelFileError):
        predictor.load(tmp_path / "nowhere")
    folder = write(tmp_path / "model")
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelFileError, match="safetensors"):
        predictor.load(folder)
