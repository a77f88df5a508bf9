"""The graph that is exported gives the model's probabilities, and holds each backbone once."""

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from tests.transfer.deployment.export import models
from tests.transfer.models.test_predictor import write
from transfer.deployment.export.inference_graph import Whole
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.image.export import by_matrices
from transfer.modalities.image.networks.imagenet import resized
from transfer.models import predictor
from transfer.models.predictor import Member


def answers(whole, images):
    with torch.no_grad():
        return whole(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_it_answers_as_the_model(tmp_path, channels, n):
    model = predictor.load(write(tmp_path / "model", channels))
    images = models.noise(n, tiny.SIDE, channels)
    found = answers(Whole(model), images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, model.predict_records(images), atol=1e-6)


def test_the_model_stays_as_it_was(tmp_path):
    model = predictor.load(write(tmp_path / "model"))
    images = models.noise(4, tiny.SIDE, 1)
    before = model.predict_records(images)
    with torch.no_grad():
        for parameter in Whole(model).parameters():
            parameter.zero_()
    assert np.array_equal(before, model.predict_records(images))


def test_equal_backbones_are_held_once(tmp_path):
    one, other = tiny.network(3, seed=1), tiny.network(3, seed=2)
    twin = tiny.network(3, seed=1)
    with torch.no_grad():
        twin.head.weight.mul_(-1)
    how = {"temperature": 1.0, "backbone_spec": tiny.BODY, "normal": tiny.NORMAL}
    members = [
        Member(arm="linear_probe/0", weight=0.5, networks=2, **how),
        Member(arm="linear_probe/1", weight=0.5, networks=1, **how),
    ]
    model = predictor.load(models.of(tmp_path / "model", members, [[one, other], [twin]]))
    whole = Whole(model)
    assert len(whole.backbones) == 2
    images = models.noise(5, tiny.SIDE, 1)
    np.testing.assert_allclose(answers(whole, images), model.predict_records(images), atol=1e-6)


def test_equal_backbones_that_see_differently_standardised_pictures_are_two(tmp_path):
    one, twin = tiny.network(3, seed=1), tiny.network(3, seed=1)
    how = {"temperature": 1.0, "networks": 1, "weight": 0.5, "backbone_spec": tiny.BODY}
    other = tiny.NORMAL.model_copy(update={"mean": (0.9,)})
    members = [
        Member(arm="scratch/0", normal=tiny.NORMAL, **how),
        Member(arm="scratch/1", normal=other, **how),
    ]
    model = predictor.load(models.of(tmp_path / "model", members, [[one], [twin]]))
    assert len(Whole(model).backbones) == 2


@pytest.mark.parametrize(("before", "after"), [(12, 32), (28, 64), (64, 32), (31, 32), (100, 48)])
def test_matrices_resize_as_interpolation_does(before, after):
    generator = torch.Generator().manual_seed(before)
    images = torch.randn(2, 3, before, before, generator=generator)
    found = by_matrices(resized, before, after)(images, after)
    torch.testing.assert_close(found, resized(images, after), rtol=1e-5, atol=2e-5)


def test_weights_lie_in_plain_order(tmp_path):
    backbone_spec = BackboneSpec(name="mobilenet_v2", options={"size": 32})
    whole = Whole(predictor.load(models.single(tmp_path / "model", backbone_spec)))
    assert all(parameter.is_contiguous() for parameter in whole.parameters())
