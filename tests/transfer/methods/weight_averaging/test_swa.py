"""The mean of the ends of its phases, taken apart phase by phase."""

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.methods.building_blocks.averaging import reestimate
from transfer.methods.weight_averaging.swa import SWA


class Recorded:
    """Calls the loop as a job does, and keeps what it was asked and what came of it."""

    def __init__(self, trainer):
        self.fit, self.states, self.shares, self.rates = trainer.fit, [], [], []

    def __call__(self, method, prepared, items=None, *, share=1.0):
        network = self.fit(method, prepared, items, share=share)
        self.states.append(tiny.state(network))
        self.shares.append(share)
        self.rates.append([rate for _, rate in prepared.rates])
        return network


def trained(method, **budget):
    seen = tiny.items()
    trainer = tiny.trainer(method, seen, tiny.recipe(seen, **budget))
    recorded = Recorded(trainer)
    object.__setattr__(trainer.job, "fit", recorded)
    return trainer, recorded, trainer.train()


def test_its_weights_are_the_mean_of_the_end_of_fine_tuning_and_of_each_cycle():
    _, recorded, result = trained(SWA(cycles=3))
    assert len(recorded.states) == 4
    for name, parameter in result.network.named_parameters():
        stack = np.stack([state[name].numpy() for state in recorded.states])
        np.testing.assert_allclose(parameter.numpy(), stack.mean(0), atol=1e-6)
        assert np.ptp(stack, axis=0).max() > 0
    assert result.notes == {"averaged": 4.0}


def test_the_shares_make_up_one_budget_and_cycles_go_slower():
    trainer, recorded, _ = trained(SWA(tail=0.4, cycles=2, cycle_rate=0.25), steps=20)
    np.testing.assert_allclose(recorded.shares, [0.6, 0.2, 0.2])
    assert trainer.steps == 20
    first, *cycles = recorded.rates
    for rates in cycles:
        np.testing.assert_allclose(rates, np.array(first) / 4)


@pytest.mark.parametrize("steps, expected", [(2, 2), (6, 4), (40, 6)])
def test_there_are_not_more_cycles_than_steps_for_them(steps, expected):
    trainer, recorded, _ = trained(SWA(tail=0.5, cycles=5), steps=steps)
    assert len(recorded.states) == expected
    assert trainer.steps == steps


def test_its_statistics_are_measured_on_the_labelled_items_with_the_averaged_weights():
    trainer, _, result = trained(SWA(cycles=2))
    other = tiny.network()
    other.load_state_dict(result.network.state_dict())
    for module in other.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.fill_(3.0)
    reestimate(other, trainer.job.labelled, trainer.job.recipe, trainer.job.seed)
    torch.testing.assert_close(other.state_dict(), result.network.state_dict())
