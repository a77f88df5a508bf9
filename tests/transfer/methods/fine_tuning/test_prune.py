"""The sparsity term against NumPy, which channels go, and what remains."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.core.errors import SettingsError
from transfer.methods.fine_tuning.prune import Prune, layers_of, narrowed, strongest
from transfer.modalities.backbone import Backbone, BackboneSpec
from transfer.modalities.image.augment import AugmentPolicy
from transfer.models.network import Network, build
from transfer.training.batches import training_batch
from transfer.training.loop import fit

GAMMAS = [f"backbone.block{i}.first_norm.weight" for i in (1, 2, 3)]


def ready(method):
    return method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)


def run(method, steps=10):
    seen = tiny.items()
    trainer = tiny.trainer(method, seen, tiny.recipe(seen, AugmentPolicy(), steps=steps))
    return trainer, trainer.train()


def test_its_terms_are_those_of_the_paper():
    method, seen = Prune(sparsity=0.3), tiny.items()
    prepared = ready(method)
    with torch.no_grad():
        prepared.network.get_parameter(GAMMAS[1])[::2] *= -1
    batch = training_batch(seen, torch.arange(8), tiny.recipe(seen), 0, 0)
    terms = {k: float(v.detach()) for k, v in method.loss(prepared, batch, 0.0).items()}
    state = tiny.state(prepared.network)
    expected = 0.3 * sum(np.abs(state[name].double().numpy()).sum() for name in GAMMAS)
    assert terms["sparsity"] == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        scores = prepared.network(batch.inputs).double().numpy()
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    wanted = -(batch.targets.numpy() * logs).sum(1).mean()
    assert terms["cross_entropy"] == pytest.approx(wanted, rel=1e-4)


def test_a_stronger_pull_ends_with_smaller_scales():
    seen, found = tiny.items(), []
    recipe = tiny.recipe(seen, steps=25, average=0)
    for sparsity in (0.0, 0.1):
        method = Prune(learning_rate=0.02, sparsity=sparsity)
        prepared = ready(method)
        kept, _ = fit(method, prepared, seen, recipe, seed=0)
        found.append(sum(float(kept.get_parameter(name).abs().sum()) for name in GAMMAS))
    assert found[1] < 0.9 * found[0]


@pytest.mark.parametrize(
    ("pruned", "expected"), [(0.5, [1, 3]), (0.25, [0, 1, 3]), (0.99, [1]), (0.01, [0, 1, 2, 3])]
)
def test_the_channels_that_stay_are_those_of_the_largest_scales(pruned, expected):
    scales = torch.tensor([0.2, -0.9, 0.1, 0.5])
    assert strongest(scales, pruned).tolist() == expected


def test_of_equal_scales_the_first_stay():
    assert strongest(torch.ones(6), 0.5).tolist() == [0, 1, 2]


def test_cutting_out_silent_channels_changes_no_answer():
    """A channel whose scale and shift are zero puts out zero, so that it is not missed."""
    net = tiny.network()
    net.load_state_dict({**tiny.knowledge(tiny.CLASSES).state})
    rng, kept = np.random.default_rng(0), []
    with torch.no_grad():
        for _, norm, _ in layers_of(net):
            n = norm.num_features
            keep = np.sort(rng.choice(n, n // 2, replace=False))
            gone = np.setdiff1d(np.arange(n), keep)
            norm.weight[gone], norm.bias[gone] = 0.0, 0.0
            kept.append(torch.tensor(keep))
    job = SimpleNamespace(
        network=lambda backbone_spec: tiny.network(seed=5, backbone_spec=backbone_spec)
    )
    small = narrowed(net, kept, job)
    images = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(images), net.eval()(images), rtol=1e-4, atol=1e-5)
    assert small.backbone_spec.options["widths"] == [4, 8, 16]


def test_the_result_is_smaller_and_can_be_built_from_its_record():
    trainer, result = run(Prune(pruned=0.75))
    assert result.network.backbone_spec == BackboneSpec(
        name="resnet", options={"width": 4, "pool": True, "widths": [2, 4, 8]}
    )
    again = build(result.network.backbone_spec, spec=tiny.spec(1), classes=3, seed=9)
    again.load_state_dict(result.network.state_dict())
    cut = sum(
        (whole - few) * (9 * inputs + 9 * whole + 2)
        for whole, few, inputs in ((8, 2, 4), (16, 4, 8), (32, 8, 16))
    )
    before = sum(p.numel() for p in tiny.network().parameters())
    assert result.notes == {"parameters": before - cut, "parameters before": before}
    assert trainer.steps == 10 and trainer.phases == 2


def test_the_map_tells_shapes_after_the_cut():
    _, result = run(Prune(), steps=2)
    shapes = {n: list(t.shape) for n, t in result.network.state_dict().items()}
    source = tiny.knowledge().state
    for row in result.transfers:
        assert row.shape == shapes[row.tensor]
        assert row.source_shape == list(source[row.tensor].shape)
        if row.tensor.startswith("backbone."):
            assert row.action == ("copied" if row.shape == row.source_shape else "sliced")
    assert {t.tensor for t in result.transfers if "cut" in t.detail} == {
        f"backbone.block{i}.{part}"
        for i in (1, 2, 3)
        for part in (
            "first.weight",
            "second.weight",
            *(f"first_norm.{own}" for own in ("weight", "bias", "running_mean", "running_var")),
        )
    }


def test_a_network_that_was_cut_can_be_cut_again():
    _, once = run(Prune(), steps=2)
    net = once.network
    job = SimpleNamespace(
        network=lambda backbone_spec: tiny.network(seed=5, backbone_spec=backbone_spec)
    )
    small = narrowed(net, [strongest(n.weight, 0.5) for _, n, _ in layers_of(net)], job)
    assert small.backbone_spec.options["widths"] == [2, 4, 8]


class Plain(Backbone):
    """A backbone without channels to spare."""

    out_features = 4


def test_a_backbone_that_cannot_be_cut_is_refused():
    net = Network(BackboneSpec(name="plain"), Plain(), 3)
    with pytest.raises(SettingsError, match=r"'plain'.*choose another backbone"):
        Prune().prepare(net, tiny.knowledge(), tiny.CLASSES)
