"""Statistics against NumPy's mean and variance of activations, and what stays as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.transfer import tiny
from transfer.core.errors import CrosstrainError
from transfer.methods.building_blocks.semi_supervised import SPREAD
from transfer.methods.domain_alignment.adabn import AdaBN, inputs, measure
from transfer.models.network import Network

SAME = tiny.knowledge(tiny.CLASSES)


def run(labels=24, **settings):
    seen = tiny.items()
    kept = seen.take(np.arange(24) < labels)
    made = tiny.trainer(AdaBN(**settings), kept, tiny.recipe(seen, steps=6), sources=[SAME])
    return made, made.train()


def moments(activations):
    """Mean and unbiased variance a channel of (N, C, H, W)."""
    values = np.moveaxis(np.asarray(activations, np.float64), 1, 0)
    values = values.reshape(len(values), -1)
    return values.mean(1), values.var(1, ddof=1)


def test_statistics_of_the_first_layer_are_those_of_all_images_however_they_are_cut():
    backbone_spec = tiny.network(seed=4).backbone
    images = torch.randn(50, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean, variance = moments(backbone_spec.stem[0](images))
    for size in (50, 7):
        measure(backbone_spec, images.split(size))
        np.testing.assert_allclose(backbone_spec.stem[1].running_mean, mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(backbone_spec.stem[1].running_var, variance, rtol=1e-4)


def test_statistics_of_every_layer_are_those_of_its_inputs_once_all_are_set():
    backbone_spec = tiny.network(seed=4).backbone
    images = 3 + 2 * torch.randn(400, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    measure(backbone_spec, [images])
    taken = {}
    for name, layer in backbone_spec.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_pre_hook(lambda m, args, name=name: taken.update({name: args}))
    with torch.no_grad():
        backbone_spec(images)
    assert len(taken) == 10
    for name, (values,) in taken.items():
        mean, variance = moments(values)
        np.testing.assert_allclose(backbone_spec.get_submodule(name).running_mean, mean, atol=2e-3)
        np.testing.assert_allclose(
            backbone_spec.get_submodule(name).running_var, variance, rtol=5e-3
        )


def test_nothing_but_statistics_changes_without_labels_and_no_step_is_made():
    made, result = run(labels=0)
    state = result.network.state_dict()
    for name, tensor in SAME.state.items():
        if name.endswith(("running_mean", "running_var")):
            assert not torch.allclose(state[name], tensor)
        elif tensor.is_floating_point():
            assert torch.equal(state[name], tensor)
    assert made.steps == 0
    assert 1 <= result.notes[SPREAD] <= 3


def test_labels_move_the_head_alone():
    made, result = run()
    _, faster = run(learning_rate=0.05)
    one, other = result.network.state_dict(), faster.network.state_dict()
    assert not torch.equal(one["head.weight"], other["head.weight"])
    for name in [name for name in one if name.startswith("backbone.")]:
        assert torch.equal(one[name], other[name])
    assert made.steps == 6


def test_the_map_says_that_statistics_are_the_targets():
    _, result = run(labels=0)
    own = [t for t in result.transfers if t.action == "reinitialised"]
    assert {t.tensor.split(".")[-1] for t in own} == {"running_mean", "running_var"}
    assert len(own) == 20
    assert all("target" in t.detail for t in own)


def test_each_image_is_measured_once_and_in_as_many_views_as_asked():
    pool, recipe = tiny.pool(20), tiny.recipe(tiny.items())
    batches = list(inputs(pool, recipe, 0, seed=0, size=8))
    expected = (pool.records.numpy() / 255 - recipe.normal.mean[0]) / recipe.normal.std[0]
    np.testing.assert_allclose(torch.cat(batches), expected, rtol=1e-4, atol=1e-5)
    assert sum(len(b) for b in inputs(pool, recipe, 2, seed=0, size=8)) == 60


def test_measuring_leaves_no_hook_and_the_evaluation_mode():
    backbone_spec = tiny.network().backbone.train()
    measure(backbone_spec, [torch.randn(4, 1, 12, 12)])
    assert not any(m._forward_pre_hooks for m in backbone_spec.modules())
    assert not any(m.training for m in backbone_spec.modules())


def test_a_constant_input_gives_a_variance_of_nothing_and_finite_scores():
    network: Network = tiny.network()
    measure(network.backbone, [torch.ones(4, 1, 1, 1).expand(4, 1, 12, 12) * 0])
    assert float(network.backbone.stem[1].running_var.abs().max()) == 0
    assert network(torch.ones(2, 1, 12, 12)).isfinite().all()


def test_a_backbone_without_batch_normalisation_is_refused():
    with pytest.raises(CrosstrainError, match="found no batch normalisation"):
        measure(nn.Sequential(nn.Conv2d(1, 2, 3)), [torch.zeros(2, 1, 5, 5)])
