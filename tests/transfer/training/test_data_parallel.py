"""Several processes make the steps that one would: tolerances are stated, and what is exact is."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.transfer import tiny
from tests.transfer.ranks import together
from transfer.methods.baselines.scratch import Scratch
from transfer.methods.source_data.multi_task import MultiTask
from transfer.modalities.image.augment import AugmentPolicy
from transfer.models.checkpoint import Keeper
from transfer.training import data_parallel as library
from transfer.training.batches import logits
from transfer.training.data_parallel import fit_together
from transfer.training.loop import Watch, fit

SEEN, WATCHED = tiny.items(30), tiny.items(11, seed=1)
VARIED = AugmentPolicy(noise=0.05, cutout=0.2, mixup=0.4, cutmix=0.4)
STEPS = 12


def train(loop, keeper=None, rank=0, size=9, watched=WATCHED):
    """Train for 12 steps of 9 images: 5 and 4 of them where two processes share a step."""
    method = Scratch(learning_rate=0.01)
    recipe = tiny.recipe(SEEN, VARIED, steps=STEPS, batch_size=size)
    watch = Watch(watched, every=3, patience=9)
    prepared = method.prepare(tiny.network(), None, tiny.CLASSES)
    net, history = loop(
        method, prepared, SEEN, recipe, seed=4, watch=watch, keeper=keeper, on_step=None
    )
    return tiny.state(net), vars(history), logits(net, SEEN.records, recipe)


@pytest.mark.parametrize("size", [2, 3])
def test_batch_normalisation_is_that_of_the_whole_batch(tmp_path, size):
    seeded_generator = torch.Generator().manual_seed(0)
    x, slope = (torch.randn(7, 4, 3, 3, generator=seeded_generator) for _ in range(2))
    x = x * 3 + 50

    def own(rank):
        layer = _layer()
        library._sync_batch_norms(layer)
        rows = x.tensor_split(size)[rank].clone().requires_grad_()
        y = layer(rows)
        (y * slope.tensor_split(size)[rank]).sum().backward()
        return y.detach(), rows.grad, layer.weight.grad, layer.bias.grad, layer.state_dict()

    layer, whole = _layer().double(), x.double().requires_grad_()
    y = layer(whole)
    (y * slope.double()).sum().backward()
    parts = together(tmp_path, own, size)
    for i, expected in enumerate((y.detach(), whole.grad)):
        found = torch.cat([part[i] for part in parts])
        np.testing.assert_allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    for i, expected in ((2, layer.weight.grad), (3, layer.bias.grad)):
        found = sum(part[i] for part in parts)
        np.testing.assert_allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    for name, expected in layer.state_dict().items():
        for part in parts:
            np.testing.assert_allclose(part[4][name], expected, rtol=1e-5)


def _layer():
    layer = nn.BatchNorm2d(4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0, -1.0]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 3.0]))
    return layer


def test_two_processes_train_the_network_of_one(tmp_path):
    """After 12 steps: class scores within 1e-3 of their range, losses within 1e-4."""
    state, history, scores = train(fit)
    one, two = together(tmp_path, lambda rank: train(fit_together, rank=rank))
    assert tiny.same(one[0], two[0]) and one[1] == two[1]  # bit for bit, or they would part
    assert one[0].keys() == state.keys()
    reach = float(scores.max() - scores.min())
    assert float((one[2] - scores).abs().max()) < 1e-3 * reach
    for name in ("step", "validation_step", "validation_accuracy"):
        assert one[1][name] == history[name]
    for name in ("loss", "validation_loss"):
        np.testing.assert_allclose(one[1][name], history[name], rtol=1e-4)


def test_a_network_without_its_share_of_validation_items_is_no_hindrance(tmp_path):
    one, two = together(tmp_path, lambda rank: train(fit_together, watched=tiny.items(1, seed=1)))
    assert one[1] == two[1] and len(one[1]["validation_loss"]) == 4


def test_a_checkpoint_of_several_is_taken_up_by_several_and_by_one(tmp_path):
    class Every(Keeper):
        def due(self):
            return True

        def save(self, state):
            if state["step"] <= 5:
                super().save(state)

    whole, _ = together(tmp_path, lambda rank: train(fit_together, Every(tmp_path / "kept")))
    assert Keeper(tmp_path / "kept").load()["step"] == 5
    again, _ = together(tmp_path, lambda rank: train(fit_together, Every(tmp_path / "kept")))
    assert tiny.same(again[0], whole[0]) and again[1] == whole[1]
    state, _, scores = train(fit, Every(tmp_path / "kept"))
    assert state.keys() == whole[0].keys()
    assert float((scores - whole[2]).abs().max()) < 1e-3 * float(scores.max() - scores.min())


def test_divergence_ends_every_process(tmp_path):
    from transfer.core.errors import CrosstrainError

    def diverge(rank):
        method = Scratch(learning_rate=1e9)
        prepared = method.prepare(tiny.network(), None, tiny.CLASSES)
        with pytest.raises(CrosstrainError, match="lower its learning rate"):
            fit_together(method, prepared, SEEN, tiny.recipe(SEEN, steps=100), seed=0)
        return rank

    assert together(tmp_path, diverge) == [0, 1]


def test_what_is_not_divided_is_refused(tmp_path):
    def refused(rank):
        with pytest.raises(ValueError, match="MultiTask reads more"):
            fit_together(MultiTask(), None, SEEN, tiny.recipe(SEEN), seed=0)
        with pytest.raises(ValueError, match="3 processes for batches of 2"):
            train(fit_together, size=2)
        return True

    assert all(together(tmp_path, refused, size=3))
