"""The source's weights, and rates that fall towards the input."""

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.methods.fine_tuning.fine_tune import FineTune
from transfer.modalities.image.augment import AugmentPolicy
from transfer.training.loop import fit
from transfer.training.method import Method
from transfer.training.recipe import one_cycle


def test_rates_are_those_of_the_docstring():
    method = FineTune(learning_rate=0.1, backbone_rate=0.5, decay=0.3)
    ready = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    rate_of = {id(p): rate for parameters, rate in ready.rates for p in parameters}
    stages = ready.network.backbone.stages()
    for i, stage in enumerate(stages):
        expected = 0.1 * 0.5 * 0.3 ** (len(stages) - 1 - i)
        for parameter in stage.parameters():
            torch.testing.assert_close(rate_of.pop(id(parameter)), expected)
    assert [rate_of.pop(id(p)) for p in ready.network.head.parameters()] == [0.1, 0.1]
    assert not rate_of


def test_it_starts_from_the_source():
    given = tiny.knowledge()
    ready = FineTune().prepare(tiny.network(), given, tiny.CLASSES)
    for name, tensor in ready.network.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, given.state[name])
    assert all(p.requires_grad for p in ready.network.parameters())


# gradual unfreezing

STEPS = 10


class Noted(FineTune):
    """Keeps the tensors of the network after each step."""

    def after_step(self, prepared, progress):
        AFTER.append(tiny.state(prepared.network))


class WithoutIt(FineTune):
    """Fine-tuning whose loss is that of any method."""

    def loss(self, prepared, batch, progress):
        return Method.loss(self, prepared, batch, progress)


AFTER = []


def states(unfreeze, **budget):
    """Tensors before the first step and after each, of a run of ten steps."""
    AFTER.clear()
    seen, method = tiny.items(), Noted(unfreeze=unfreeze)
    ready = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    before = tiny.state(ready.network)
    fit(method, ready, seen, tiny.recipe(seen, steps=STEPS, **budget), seed=0)
    return [before, *AFTER]


def parameters_of(part):
    """Names of the parameters of a part of the network: four stages from the input, the head."""
    prefix = ["backbone.stem.", *(f"backbone.block{i}." for i in (1, 2, 3)), "head."][part]
    return [name for name, _ in tiny.network().named_parameters() if name.startswith(prefix)]


@pytest.mark.parametrize(("part", "joins_at"), [(4, 0), (3, 2), (2, 4), (1, 6), (0, 8)])
def test_a_stage_stays_bit_for_bit_until_it_joins_and_then_moves(part, joins_at):
    """With 0.8 of ten steps for four stages, one joins every second step; so does its decay."""
    kept = states(0.8, weight_decay=0.5)
    names = parameters_of(part)
    assert names
    for name in names:
        for step in range(joins_at):
            assert torch.equal(kept[step][name], kept[step + 1][name]), (name, step)
        for step in range(joins_at, STEPS):
            assert not torch.equal(kept[step][name], kept[step + 1][name]), (name, step)


def test_a_stages_first_step_is_the_first_of_adam():
    """No moments from before: each number without decay moves by the rate of that step."""
    kept = states(0.8, warmup=0.3)
    stages = ((3, 2, 0.5), (2, 4, 0.5 * 0.8), (1, 6, 0.5 * 0.64), (0, 8, 0.5 * 0.512))
    for part, step, share in stages:
        rate = 3e-3 * share * one_cycle(step / STEPS, 0.3)
        names = parameters_of(part)
        moves = [
            (kept[step + 1][n].double() - kept[step][n].double()).abs().numpy()
            for n in names
            if kept[step][n].dim() == 1
        ]
        np.testing.assert_allclose(np.concatenate(moves), rate, rtol=0.02)


def test_statistics_adapt_from_the_first_step_also_in_frozen_stages():
    kept = states(0.8)
    name = "backbone.stem.1.running_mean"
    assert all(not torch.equal(kept[i][name], kept[i + 1][name]) for i in range(STEPS))


def test_without_unfreezing_the_bits_are_those_of_plain_training():
    seen, kept = tiny.items(), []
    for method in (FineTune(), WithoutIt()):
        recipe = tiny.recipe(seen, AugmentPolicy(), steps=6)
        kept.append(tiny.trainer(method, seen, recipe).train().network.state_dict())
    assert tiny.same(*kept)


@pytest.mark.parametrize("dies_at", [1, 5])
def test_a_run_cut_off_while_stages_are_frozen_gives_the_same_bits(dies_at, tmp_path):
    seen, method = tiny.items(), FineTune(unfreeze=0.8)
    recipe = tiny.recipe(seen, AugmentPolicy(), steps=STEPS)

    def train(keeper=None):
        ready = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
        return fit(method, ready, seen, recipe, seed=0, keeper=keeper)[0].state_dict()

    with pytest.raises(tiny.Died):
        train(tiny.mortal(tmp_path / "kept", dies_at))
    assert tiny.same(train(tiny.mortal(tmp_path / "kept")), train())
