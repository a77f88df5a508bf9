"""Between two networks: its ends are the probe and fine-tuning, and the middle is the middle."""

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.methods.building_blocks.averaging import reestimate
from transfer.methods.weight_averaging.wise_ft import WiseFT


def trained(alpha):
    seen = tiny.items()
    trainer = tiny.trainer(WiseFT(alpha=alpha), seen, tiny.recipe(seen, steps=20))
    return trainer, trainer.train()


@pytest.fixture(scope="module")
def ends():
    return [tiny.state(trained(alpha)[1].network) for alpha in (0.0, 1.0)]


def test_alpha_zero_is_a_linear_probe_on_the_sources_backbone(ends):
    given = tiny.knowledge().state
    for name, tensor in ends[0].items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, given[name])
    fresh = tiny.trainer(WiseFT(), tiny.items(), tiny.recipe(tiny.items())).job.network()
    assert not torch.equal(ends[0]["head.weight"], fresh.head.weight)


def test_alpha_one_has_trained_everything(ends):
    probe, tuned = ends
    moved = {name for name in probe if not torch.equal(probe[name], tuned[name])}
    assert {name for name in probe if "running" in name or "weight" in name} <= moved


@pytest.mark.parametrize("alpha", [0.25, 0.5])
def test_weights_lie_on_the_line_between(ends, alpha):
    trainer, result = trained(alpha)
    for name, tensor in result.network.state_dict().items():
        if tensor.is_floating_point() and "running" not in name:
            probe, tuned = (end[name].numpy().astype(float) for end in ends)
            expected = probe + alpha * (tuned - probe)
            np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-6)
    assert result.notes == {"alpha": alpha}
    assert trainer.steps == 20


def test_statistics_are_measured_anew_with_the_weights_between(ends):
    trainer, result = trained(0.5)
    found = {n: t.clone() for n, t in result.network.state_dict().items() if "running" in n}
    reestimate(result.network, trainer.job.labelled, trainer.job.recipe, trainer.job.seed)
    assert all(torch.equal(t, result.network.state_dict()[n]) for n, t in found.items())
    line = {n: (ends[0][n] + ends[1][n]) / 2 for n in found}
    assert any(not torch.allclose(line[n], found[n], rtol=1e-2) for n in found)
