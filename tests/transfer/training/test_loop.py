"""The loop: its steps, schedules and averages against NumPy, and that it can be taken up again."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from tests.transfer import tiny
from transfer.core.errors import CrosstrainError
from transfer.data.items import TestItems
from transfer.methods.baselines.scratch import Scratch
from transfer.methods.fine_tuning.fine_tune import FineTune
from transfer.modalities.image.augment import AugmentPolicy
from transfer.models.checkpoint import Keeper
from transfer.training import loop
from transfer.training.batches import batches, logits, to_input
from transfer.training.loop import Watch, fit
from transfer.training.method import Method, Prepared
from transfer.training.recipe import one_cycle

VARIED = AugmentPolicy(noise=0.05, cutout=0.2, mixup=0.4, cutmix=0.4)


def train(seen, recipe, seed=3, keeper=None, method=None, **kwargs):
    method = method or Scratch()
    prepared = method.prepare(tiny.network(), None, tiny.CLASSES)
    return fit(method, prepared, seen, recipe, seed=seed, keeper=keeper, **kwargs)


class Spy(Scratch):
    """Notes each batch, the loss before each step and the weights it was computed with."""

    def loss(self, prepared, batch, progress):
        terms = super().loss(prepared, batch, progress)
        NOTES.append((batch, float(terms["cross_entropy"].detach()), progress))
        return terms


NOTES = []


@pytest.fixture(autouse=True)
def _forget_notes():
    NOTES.clear()


class Idle(Method):
    """A loss without a slope: all that moves the weights is their decay."""

    def prepare(self, network, knowledge, class_names):
        rates = [(list(network.head.parameters()), 0.1), (list(network.backbone.parameters()), 0.2)]
        return Prepared(network, rates, [])

    def loss(self, prepared, batch, progress):
        return {"nothing": 0.0 * sum(p.sum() for p in prepared.network.parameters())}


# weight decay


def test_decay_shrinks_matrices_by_the_closed_form_and_leaves_biases_and_norms_alone():
    seen = tiny.items()
    recipe = tiny.recipe(seen, steps=10, weight_decay=0.3, warmup=0.3, average=0)
    method = Idle()
    prepared = method.prepare(tiny.network(), None, tiny.CLASSES)
    before = tiny.state(prepared.network)
    after, _ = fit(method, prepared, seen, recipe, seed=0)
    cycle = [one_cycle(step / 10, 0.3) for step in range(10)]
    for name, parameter in after.named_parameters():
        peak = 0.1 if name.startswith("head.") else 0.2
        shrink = np.prod([1 - peak * share * 0.3 for share in cycle])
        if parameter.dim() > 1:
            np.testing.assert_allclose(parameter, before[name] * shrink, rtol=1e-5)
        else:
            assert torch.equal(parameter, before[name]), name


# the loss


def test_first_loss_is_the_smoothed_cross_entropy():
    seen = tiny.items(8)
    recipe = tiny.recipe(seen, steps=1, label_smoothing=0.2)
    _, history = train(seen, recipe, seed=5)
    (rows,) = batches(8, 8, 5, 0, 1)
    with torch.no_grad():
        scores = tiny.network().train()(to_input(seen.records[rows], recipe))
    p = scores.double().softmax(1).numpy()
    hard = log_loss(seen.labels[rows].numpy(), p, labels=[0, 1, 2])
    expected = 0.8 * hard + 0.2 * -np.log(p).mean()
    assert history.loss == [pytest.approx(expected, rel=1e-5)]


@given(st.floats(0, 0.99), st.integers(2, 9))
def test_smoothed_targets_stay_distributions(share, classes):
    hard = torch.eye(classes, dtype=torch.float64)
    smooth = loop._smooth(hard, share).numpy()
    np.testing.assert_allclose(smooth.sum(1), 1)
    np.testing.assert_allclose(smooth, (1 - share) * np.eye(classes) + share / classes)


def test_the_curve_holds_means_over_the_samples_since_the_last_point():
    seen = tiny.items()
    _, history = train(seen, tiny.recipe(seen, steps=120), method=Spy())
    losses = [loss for _, loss, _ in NOTES]
    assert history.step == list(range(2, 121, 2))
    np.testing.assert_allclose(history.loss, np.reshape(losses, (60, 2)).mean(1), rtol=1e-5)
    assert [p for *_, p in NOTES] == [step / 120 for step in range(120)]


def test_a_batch_holds_its_items_and_their_labels():
    seen = tiny.items()
    recipe = tiny.recipe(seen, steps=3, label_smoothing=0)
    train(seen, recipe, seed=4, method=Spy())
    for (batch, *_), rows in zip(NOTES, batches(24, 8, 4, 0, 3), strict=True):
        assert torch.equal(batch.inputs, to_input(seen.records[rows], recipe))
        assert torch.equal(batch.targets.argmax(1), seen.labels[rows])


def test_mixing_gives_soft_targets():
    seen = tiny.items()
    train(seen, tiny.recipe(seen, AugmentPolicy(mixup=1.0), steps=4), method=Spy())
    for batch, *_ in NOTES:
        np.testing.assert_allclose(batch.targets.sum(1), 1, rtol=1e-5)
    assert max(int((batch.targets > 0.2).sum(1).max()) for batch, *_ in NOTES) == 2


# averages


def test_the_average_of_weights_follows_numpy(tmp_path):
    seen = tiny.items()
    recipe = tiny.recipe(seen, steps=10, average=0.8, average_from=0.5)
    trail = []

    class Recorder(tiny.Mortal):
        def save(self, state):
            trail.append({k: v.numpy().copy() for k, v in state["network"].items()})

    network, _ = train(seen, recipe, keeper=Recorder(tmp_path / "x"))
    expected = {k: v.astype(np.float64) for k, v in trail[5].items()}
    for weights in trail[6:]:
        expected = {k: 0.8 * expected[k] + 0.2 * weights[k] for k in expected}
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            np.testing.assert_allclose(tensor, expected[name], rtol=1e-4, atol=1e-6)
        else:
            assert tensor == trail[-1][name]


def test_without_averaging_the_last_weights_are_kept(tmp_path):
    seen = tiny.items()
    keeper = tiny.mortal(tmp_path / "x")
    network, _ = train(seen, tiny.recipe(seen, steps=6, average=0), keeper=keeper)
    assert tiny.same(keeper.load()["network"], network.state_dict())


# determinism and interruption


def test_one_seed_one_result_another_seed_another():
    seen = tiny.items()
    recipe = tiny.recipe(seen, VARIED, steps=8)
    runs = [train(seen, recipe, seed=seed) for seed in (3, 3, 4)]
    states = [network.state_dict() for network, _ in runs]
    assert tiny.same(states[0], states[1])
    assert runs[0][1] == runs[1][1]
    assert not tiny.same(states[0], states[2])


def test_global_dice_change_nothing_and_are_not_touched():
    seen = tiny.items()
    recipe = tiny.recipe(seen, VARIED, steps=4)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, _ = train(seen, recipe)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert tiny.same(first.state_dict(), train(seen, recipe)[0].state_dict())


@pytest.mark.parametrize("dies_at", [1, 5, 6, 9, 11, 12])
@pytest.mark.parametrize("watched", [False, True])
def test_a_run_cut_off_and_taken_up_gives_the_same_bits(tmp_path, dies_at, watched):
    seen, watch = tiny.items(), None
    if watched:
        watch = Watch(tiny.items(9, seed=1), every=3, patience=9)
    recipe = tiny.recipe(seen, VARIED, steps=12, average_from=0.4)
    whole, history = train(seen, recipe, watch=watch)
    with pytest.raises(tiny.Died):
        train(seen, recipe, watch=watch, keeper=tiny.mortal(tmp_path / "c", dies_at))
    keeper = tiny.mortal(tmp_path / "c")
    again, told = train(seen, recipe, watch=watch, keeper=keeper)
    assert tiny.same(whole.state_dict(), again.state_dict())
    assert told == history


@pytest.mark.parametrize("dies_at", [51])
def test_a_point_of_the_curve_spans_an_interruption(tmp_path, dies_at):
    seen = tiny.items()
    recipe = tiny.recipe(seen, steps=104, batch_size=2)
    with pytest.raises(tiny.Died):
        train(seen, recipe, keeper=tiny.mortal(tmp_path / "c", dies_at))
    _, told = train(seen, recipe, keeper=Keeper(tmp_path / "c"))
    assert told.step == list(range(2, 105, 2))
    assert told == train(seen, recipe)[1]


def test_the_best_weights_survive_an_interruption(tmp_path):
    """Cut off after the best look, so that no later one repeats it."""
    network, history, *_ = overfit(every=2, patience=4)
    best = history.validation_step[int(np.argmin(history.validation_loss))]
    with pytest.raises(tiny.Died):
        overfit(keeper=tiny.mortal(tmp_path / "c", best + 5), every=2, patience=4)
    again, told, *_ = overfit(keeper=Keeper(tmp_path / "c"), every=2, patience=4)
    assert tiny.same(network.state_dict(), again.state_dict())
    assert told == history


def test_a_run_that_dies_again_and_again_gives_the_same_bits(tmp_path):
    seen = tiny.items()
    recipe = tiny.recipe(seen, VARIED, steps=8, average_from=0.2)
    for _ in range(8):
        with pytest.raises(tiny.Died):
            train(seen, recipe, keeper=tiny.mortal(tmp_path / "c", 1))
    again, _ = train(seen, recipe, keeper=tiny.mortal(tmp_path / "c"))
    assert tiny.same(train(seen, recipe)[0].state_dict(), again.state_dict())


def test_a_damaged_checkpoint_costs_its_steps_only(tmp_path):
    seen = tiny.items()
    recipe = tiny.recipe(seen, steps=6)
    with pytest.raises(tiny.Died):
        train(seen, recipe, keeper=tiny.mortal(tmp_path / "c", 4))
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:999])
    again, _ = train(seen, recipe, keeper=tiny.mortal(tmp_path / "c"))
    assert tiny.same(train(seen, recipe)[0].state_dict(), again.state_dict())


# early stopping


def overfit(keeper=None, **watch):
    """Train on labels that contradict those of the validation items."""
    seen, watched = tiny.items(), tiny.items(12, seed=1)
    watched = replace(watched, labels=(watched.labels + 1) % 3)
    recipe = tiny.recipe(seen, steps=60, average=0)
    network, history = train(seen, recipe, watch=Watch(watched, **watch), keeper=keeper)
    return network, history, watched, recipe


def test_early_stopping_keeps_the_best_weights():
    network, history, watched, recipe = overfit(every=2, patience=4)
    best = int(np.argmin(history.validation_loss))
    assert len(history.validation_loss) - 1 - best == 4
    assert history.validation_step == list(range(2, history.validation_step[-1] + 1, 2))
    assert history.validation_step[-1] < 60
    p = logits(network, watched.records, recipe).double().softmax(1).numpy()
    labels = watched.labels.numpy()
    assert log_loss(labels, p) == pytest.approx(min(history.validation_loss), rel=1e-5)
    assert (p.argmax(1) == labels).mean() == pytest.approx(history.validation_accuracy[best])


def test_the_curve_of_a_run_that_stops_early_ends_where_it_stopped():
    _, history, *_ = overfit(every=1, patience=1)
    assert history.step[-1] == history.validation_step[-1]


def test_a_look_changes_nothing_but_the_choice(tmp_path):
    seen = tiny.items()
    recipe = tiny.recipe(seen, steps=9, average_from=0.3)
    trails = []
    for watch in (None, Watch(tiny.items(6, seed=1), every=2, patience=9)):
        keeper = tiny.mortal(tmp_path / "c")
        train(seen, recipe, watch=watch, keeper=keeper)
        trails.append(keeper.load())
        keeper.forget()
    assert tiny.same(trails[0]["network"], trails[1]["network"])
    assert tiny.same(trails[0]["average"], trails[1]["average"])


# what it refuses


def test_the_test_split_cannot_be_trained_on_or_selected_on():
    seen = tiny.items()
    held_out = TestItems(seen.records, seen.labels, seen.ids)
    recipe = tiny.recipe(seen, steps=2)
    with pytest.raises(TypeError, match="not TestItems"):
        train(held_out, recipe)
    with pytest.raises(TypeError, match="not TestItems"):
        train(seen, recipe, watch=Watch(held_out, 1, 1))


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_run_that_diverges_says_so():
    seen = tiny.items()
    with pytest.raises(CrosstrainError, match="lower its learning rate"):
        train(seen, tiny.recipe(seen, steps=30), method=Scratch(learning_rate=1e8))


# what it hands over


def test_the_network_comes_back_frozen_and_in_evaluation_mode():
    seen = tiny.items()
    network, _ = train(seen, tiny.recipe(seen, steps=1))
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in network.modules())


def test_progress_is_reported_after_every_step():
    seen, calls = tiny.items(6), []
    train(seen, tiny.recipe(seen, steps=120, batch_size=2), on_step=lambda *s: calls.append(s))
    assert calls == [(step, 120) for step in range(1, 121)]


def test_the_rate_of_a_group_is_its_own(tmp_path):
    seen = tiny.items()
    method = FineTune(learning_rate=0.01, backbone_rate=0.5, decay=0.5)
    prepared = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    keeper = tiny.mortal(tmp_path / "c")
    fit(method, prepared, seen, tiny.recipe(seen, steps=4, warmup=0), seed=0, keeper=keeper)
    groups = keeper.load()["optimiser"]["param_groups"]
    share = (1 + math.cos(math.pi * 0.75)) / 2
    for group in groups:
        assert group["lr"] == pytest.approx(group["peak"] * share)
    peaks = sorted({group["peak"] for group in groups}, reverse=True)
    assert peaks == pytest.approx([0.01, 0.005, 0.0025, 0.00125, 0.000625])
