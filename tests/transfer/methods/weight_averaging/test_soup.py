"""What goes into the soup, what it is judged by, and what it never saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.transfer import tiny
from transfer.methods.building_blocks.averaging import greedy, held_out, mean, reestimate
from transfer.methods.weight_averaging.soup import Soup
from transfer.metrics.calibration import fit_temperature
from transfer.training.batches import logits


class Recorded:
    """Calls the loop as a job does, and keeps what it was asked and what came of it."""

    def __init__(self, trainer):
        self.fit, self.states, self.items, self.rates, self.starts = trainer.fit, [], [], [], []

    def __call__(self, method, prepared, items=None, *, share=1.0):
        self.starts.append(tiny.state(prepared.network))
        self.rates.append([rate for _, rate in prepared.rates])
        self.items.append(items)
        network = self.fit(method, prepared, items, share=share)
        self.states.append(tiny.state(network))
        return network


def trained(method, seen, **budget):
    trainer = tiny.trainer(method, seen, tiny.recipe(seen, **budget))
    recorded = Recorded(trainer)
    object.__setattr__(trainer.job, "fit", recorded)
    return trainer, recorded, trainer.train()


@pytest.fixture(scope="module")
def cooked():
    return trained(Soup(rates=(1.0, 3.0, 0.5), parts=3), tiny.items(), steps=24)


def test_ingredients_start_alike_and_differ_in_rates(cooked):
    trainer, recorded, _ = cooked
    first, *others = recorded.starts
    assert all(tiny.same(first, other) for other in others)
    base = np.array(recorded.rates[0])
    np.testing.assert_allclose(recorded.rates[1], 3 * base)
    np.testing.assert_allclose(recorded.rates[2], base / 2)
    assert trainer.steps == 24


def test_ingredients_of_equal_rates_differ_by_their_order_of_items():
    _, recorded, _ = trained(Soup(rates=(1.0, 1.0)), tiny.items(), steps=6)
    assert not tiny.same(*recorded.states)


def test_no_ingredient_sees_an_item_that_it_is_judged_by(cooked):
    trainer, recorded, result = cooked
    held = held_out(trainer.job.labelled, 3, trainer.job.seed)
    for items in recorded.items:
        assert sorted(items.ids) == sorted(trainer.job.labelled.ids[~held])
    assert result.notes["held out"] == held.sum() > 0


def test_the_soup_is_the_greedy_one_by_held_out_log_loss(cooked):
    trainer, recorded, result = cooked
    job = trainer.job
    held = held_out(job.labelled, 3, job.seed)
    judges, seen = job.labelled.take(held), job.labelled.take(~held)

    def network(chosen):
        made = tiny.network()
        made.load_state_dict(mean([recorded.states[i] for i in chosen]))
        if len(chosen) > 1:
            reestimate(made, seen, job.recipe, job.seed)
        return made

    def loss(chosen):
        scores = logits(network(chosen), judges.records, job.recipe)
        temperature = fit_temperature(scores.numpy(), judges.labels.numpy())
        return float(functional.cross_entropy(scores / temperature, judges.labels))

    kept = greedy(3, loss)
    torch.testing.assert_close(network(kept).state_dict(), result.network.state_dict())
    assert loss(kept) <= min(loss([i]) for i in range(3))
    assert result.notes["kept"] == len(kept) == 3 - result.notes["refused"]
    assert result.notes["rates kept"] == ", ".join(f"{(1.0, 3.0, 0.5)[i]:g}" for i in kept)


def test_an_ingredient_that_ruins_the_average_is_refused():
    method = Soup(rates=(1.0, 3000.0), parts=3)
    _, _, result = trained(method, tiny.items(), steps=40)
    assert result.notes["rates kept"] == "1" and result.notes["refused"] == 1.0


def test_with_nothing_to_judge_by_all_are_averaged():
    seen = replace(tiny.items(3), labels=torch.arange(3))
    _, recorded, result = trained(Soup(rates=(1.0, 2.0)), seen, steps=4)
    assert result.notes["kept"] == 2.0 and result.notes["held out"] == 0.0
    expected = mean(recorded.states)
    for name, parameter in result.network.named_parameters():
        assert torch.equal(parameter, expected[name])
