"""ONNX files answer as torch does, for every backbone; 8-bit ones nearly, and in a third of it."""

import json

import numpy as np
import onnx
import pytest

from tests.transfer import tiny
from tests.transfer.deployment.export import models
from tests.transfer.modalities.image.backbones.test_every_backbone import SETTINGS
from tests.transfer.models.test_predictor import write as write_model
from transfer.core.errors import SettingsError
from transfer.deployment.export import onnx_file
from transfer.deployment.export.contract import contract
from transfer.deployment.export.inference_graph import Whole
from transfer.deployment.export.packages import package
from transfer.metrics import classification
from transfer.modalities.image.networks.imagenet import MissingPackageError
from transfer.models import predictor
from transfer.models.network import build


def buildable(settings):
    try:
        build(settings, spec=tiny.spec(1), classes=3, seed=0)
    except MissingPackageError:
        return False
    return True


HERE = [settings for settings in SETTINGS if buildable(settings)]


def exported(folder, file):
    model = predictor.load(folder)
    size, channels = model.card.spec.size, model.card.spec.channels
    told = contract(model.card, 3)
    onnx_file.write(Whole(model), models.noise(2, size, channels), file, told)
    return model, onnx_file.ask(file, 1)


@pytest.mark.parametrize("backbone_spec", HERE, ids=repr)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 40)], ids=["grey", "colour"])
def test_every_backbone_answers_as_in_torch(tmp_path, backbone_spec, channels, size):
    folder = models.single(tmp_path / "model", backbone_spec, size=size, channels=channels)
    model, answer = exported(folder, tmp_path / "model.onnx")
    images = models.noise(3, size, channels)
    found = answer(images)
    np.testing.assert_allclose(found, model.predict_records(images), atol=1e-5)
    assert found.std(0).max() > 1e-3


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble")
    return exported(write_model(folder / "model", 3), folder / "model.onnx")


@pytest.mark.parametrize("n", [1, 2, 7, 128])
def test_an_ensemble_is_one_graph_for_batches_of_any_size(ensemble, n):
    model, answer = ensemble
    images = models.noise(n, tiny.SIDE, 3, seed=n)
    found = answer(images)
    assert found.shape == (n, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found, model.predict_records(images), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_the_file_says_what_it_expects_and_what_its_classes_are(tmp_path):
    exported(models.trained(tmp_path / "model"), tmp_path / "model.onnx")
    kept = onnx.load(tmp_path / "model.onnx")
    told = {prop.key: prop.value for prop in kept.metadata_props}
    assert json.loads(told["class_names"]) == list(tiny.CLASSES)
    given = json.loads(told["input"])
    assert given["shape"] == ["N", 1, tiny.SIDE, tiny.SIDE] and given["dtype"] == "uint8"
    assert (given["size"], given["channels"], given["fit"]) == (tiny.SIDE, 1, "crop")
    assert given["limits"]["max_pixels"] > 0
    assert json.loads(told["members"]) == {"fine_tune/0": 0.25, "fine_tune/1": 0.75}
    assert json.loads(told["data"]) == {"hedge": "0" * 32}
    assert (told["target"], told["version"]) == ("hedge", "3")
    (images,), (found,) = kept.graph.input, kept.graph.output
    assert (images.name, found.name) == ("images", "probabilities")
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert images.type.tensor_type.shape.dim[0].dim_param == "N"


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantised")
    model, answer = exported(models.trained(folder / "model"), folder / "model.onnx")
    pictures, told = models.pool().records.numpy(), {"class_names": "[]"}
    onnx_file.quantise(folder / "model.onnx", folder / "model.int8.onnx", pictures, told)
    return folder, model, answer, onnx_file.ask(folder / "model.int8.onnx", 1)


def test_eight_bits_decide_nearly_alike(quantised):
    _, model, exact, answer = quantised
    test = models.held_out()
    images, labels = test.records.numpy(), test.labels.numpy()
    right = classification.accuracy(model.predict_records(images), labels)
    assert right > 0.8
    assert classification.accuracy(answer(images), labels) >= right - 0.03
    difference = np.abs(answer(images) - exact(images))
    assert 0 < difference.max() < 0.2 and difference.mean() < 0.02


@pytest.mark.parametrize("n", [1, 2, 7, 128])
def test_eight_bits_take_batches_of_any_size(quantised, n):
    _, _, _, answer = quantised
    images = np.resize(models.held_out().records.numpy(), (n, 1, tiny.SIDE, tiny.SIDE))
    np.testing.assert_allclose(answer(images)[-1:], answer(images[-1:]), atol=1e-5)


def test_eight_bits_are_in_the_convolutions_and_not_in_what_calibrates(quantised):
    folder, *_ = quantised
    kept = onnx.load(folder / "model.int8.onnx")
    made_by = {name: node for node in kept.graph.node for name in node.output}
    kinds = {"Conv": set(), "Gemm": set(), "Softmax": set()}
    for node in kept.graph.node:
        if node.op_type in kinds:
            above = made_by.get(node.input[0])
            kinds[node.op_type].add(above.op_type if above else "input")
    assert kinds["Conv"] == {"DequantizeLinear"}
    assert kinds["Softmax"] == {"Div"}
    weights = {t.name: t.data_type for t in kept.graph.initializer}
    assert onnx.TensorProto.INT8 in weights.values()


def test_the_same_model_gives_the_same_bytes(quantised, tmp_path):
    folder, *_ = quantised
    exported(folder / "model", tmp_path / "model.onnx")
    pictures, told = models.pool().records.numpy(), {"class_names": "[]"}
    onnx_file.quantise(tmp_path / "model.onnx", tmp_path / "model.int8.onnx", pictures, told)
    for name in ("model.onnx", "model.int8.onnx"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_wide_network_shrinks_by_three(tmp_path):
    backbone_spec = tiny.BODY.model_copy(update={"options": {"width": 24, "pool": True}})
    exact, file = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"
    exported(models.single(tmp_path / "model", backbone_spec), exact)
    onnx_file.quantise(exact, file, models.noise(8, 28, 1), {})
    assert 3 < exact.stat().st_size / file.stat().st_size < 4


def test_ranges_come_from_the_pictures_given(quantised, tmp_path):
    folder, model, *_ = quantised
    file = tmp_path / "dark.onnx"
    onnx_file.quantise(folder / "model.onnx", file, models.dark().records.numpy(), {})
    images = models.held_out().records.numpy()
    difference = np.abs(onnx_file.ask(file, 1)(images) - model.predict_records(images))
    assert difference.max() > 0.5


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_package_names_the_extra(monkeypatch, name):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(SettingsError, match=r"pip install 'crosstrain\[edge\]'"):
        package(name)
