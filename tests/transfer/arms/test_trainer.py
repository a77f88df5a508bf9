"""One network of an arm: what its method may see, and the loop in phases of one budget."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.transfer import tiny
from transfer.arms.trainer import Trainer
from transfer.methods.baselines.scratch import Scratch
from transfer.methods.fine_tuning.fine_tune import FineTune
from transfer.methods.frozen_features.linear_probe import LinearProbe
from transfer.modalities.image.augment import AugmentPolicy
from transfer.modalities.normalisation import Normalisation
from transfer.models.checkpoint import Keeper
from transfer.training.batches import embed
from transfer.training.feature_cache import Features
from transfer.training.method import Prepared, Trained

SEEN = tiny.items(24, groups=[f"g{i // 2}" for i in range(24)])
RECIPE = tiny.recipe(SEEN, steps=20)
SHORT = tiny.recipe(SEEN, steps=10)
HELD = 4


class Phases(Scratch):
    """One run of the loop for each of these shares of the budget."""

    shares: tuple[float, ...] = (0.3, 0.7)

    def train(self, job):
        prepared = self.prepare(job.network(), None, job.class_names)
        for share in self.shares:
            network = job.fit(self, prepared, share=share)
            network.requires_grad_(True)
        return Trained(network.requires_grad_(False), prepared.transfers)


class Reader(Scratch):
    """Notes what each batch holds."""

    reads_source: ClassVar[bool] = True
    reads_pool: ClassVar[bool] = True

    def loss(self, prepared, batch, progress):
        NOTES.append(batch)
        return super().loss(prepared, batch, progress)


class Join(FineTune):
    combines: ClassVar[bool] = True


NOTES = []


def trainer(method, recipe=RECIPE, *, target=None, hidden=0, keeper=None, on_step=None, sources=()):
    rows = np.arange(24) < 24 - hidden
    return Trainer(method, sources, target or tiny.target(SEEN), recipe, 3, rows, keeper, on_step)


# what a job is made of


def test_what_a_fold_holds_out_is_in_neither_the_labelled_items_nor_the_pool():
    target = replace(tiny.target(SEEN), pool=tiny.pool_of(SEEN))
    job = trainer(Scratch(), target=target, hidden=HELD).job
    held = set(SEEN.groups[-HELD:])
    assert len(job.labelled) == len(job.pool) == 20
    for items in (job.labelled, job.pool):
        assert not held & set(items.groups)
        assert not set(SEEN.ids[-HELD:]) & set(items.ids)


def test_an_unlabelled_item_of_a_group_that_is_held_out_is_held_out_too():
    """Another picture of the same plant: it is not the item itself, and would give it away."""
    beside = tiny.items(6, seed=9, groups=["g11", "g10", "g0", "own", "g11", "other"])
    target = replace(tiny.target(SEEN), pool=tiny.pool_of(beside))
    job = trainer(Scratch(), target=target, hidden=HELD).job
    assert job.pool.groups.tolist() == ["g0", "own", "other"]
    assert torch.equal(job.pool.records, beside.records[[2, 3, 5]])


def test_without_folds_nothing_is_held_out():
    target = replace(tiny.target(SEEN), pool=tiny.pool_of(SEEN))
    job = trainer(Scratch(), target=target).job
    assert len(job.labelled) == len(job.pool) == 24


def test_a_batch_holds_nothing_that_is_held_out():
    NOTES.clear()
    target = replace(tiny.target(SEEN), pool=tiny.pool_of(SEEN))
    images = SEEN.records.float().div(255)
    held = RECIPE.normal.apply(images[-HELD:])
    trainer(Reader(), SHORT, target=target, hidden=HELD).train()
    assert len(NOTES) == 10
    for batch in NOTES:
        for inputs in (batch.inputs, batch.pool.weak, batch.pool.strong):
            assert (inputs[:, None] - held[None]).flatten(2).abs().amax(2).min() > 0.1


def test_a_method_is_handed_what_it_uses_and_no_more():
    one, two = tiny.knowledge(), tiny.knowledge(seed=200)
    alone = trainer(Scratch(), sources=[one, two]).job
    assert alone.knowledge is None and alone.several == ()
    tuned = trainer(FineTune(), sources=[one, two]).job
    assert tuned.knowledge is one and tuned.several == ()
    joined = trainer(Join(), sources=[one, two]).job
    assert joined.several == (one, two)


def test_a_backbone_is_that_of_the_knowledge_or_that_of_the_target():
    other = tiny.BODY.model_copy(update={"options": {"width": 8, "pool": True}})
    target = tiny.target(SEEN, backbone_spec=other)
    assert trainer(Scratch(), target=target, sources=[tiny.knowledge()]).job.backbone_spec == other
    assert (
        trainer(FineTune(), target=target, sources=[tiny.knowledge()]).job.backbone_spec
        == tiny.BODY
    )


FIXED = Normalisation(mean=(0.1,), std=(0.7,))


def test_knowledge_that_must_go_on_with_its_standardisation_does():
    fixed = replace(tiny.knowledge(), normal=FIXED, fixed_normal=True)
    one = trainer(FineTune(), sources=[fixed])
    assert one.job.recipe.normal == FIXED
    assert one.input_recipe(one.train()).normal == FIXED
    assert trainer(Scratch(), sources=[fixed]).job.recipe.normal == RECIPE.normal
    free = trainer(FineTune(), sources=[replace(fixed, fixed_normal=False)])
    assert free.job.recipe.normal == RECIPE.normal


def test_a_method_that_standardises_otherwise_is_taken_at_its_word():
    one = trainer(Scratch())
    trained = replace(one.train(), normal=FIXED)
    assert one.input_recipe(trained) == replace(RECIPE, normal=FIXED)


# phases


def test_histories_are_joined_and_steps_of_shares_add_up():
    one = trainer(Phases())
    one.train()
    assert (one.phases, one.steps) == (2, 20)
    assert one.history.step == list(range(1, 21))
    assert len(one.history.loss) == 20


@settings(max_examples=15)
@example(5, [1, 1])
@given(st.integers(3, 12), st.lists(st.integers(1, 4), min_size=2, max_size=3))
def test_however_a_budget_is_shared_its_steps_are_made(steps, parts):
    shares = tuple(part / sum(parts) for part in parts)
    assume(min(shares) * steps >= 1)
    one = trainer(Phases(shares=shares), tiny.recipe(SEEN, steps=steps, batch_size=2))
    one.train()
    assert one.steps == one.history.step[-1] == steps


def test_a_share_is_one_step_at_least():
    one = trainer(Phases(shares=(0.001,)))
    one.train()
    assert one.steps == 1


def test_a_phase_goes_on_with_the_weights_of_the_one_before_and_with_batches_of_its_own():
    NOTES.clear()

    class Twice(Phases):
        shares: tuple[float, ...] = (0.5, 0.5)

        def loss(self, prepared, batch, progress):
            NOTES.append((progress, batch.inputs, prepared.network.head.weight.detach().clone()))
            return super().loss(prepared, batch, progress)

    trainer(Twice(), tiny.recipe(SEEN, AugmentPolicy(), steps=8, average=0.0)).train()
    first, second = NOTES[:4], NOTES[4:]
    assert [told[0] for told in first] == [told[0] for told in second] == [0, 0.25, 0.5, 0.75]
    for one, two in zip(first, second, strict=True):
        assert not torch.equal(one[1], two[1])
    fresh = tiny.network(seed=3).head.weight
    torch.testing.assert_close(first[0][2], fresh)
    assert not torch.equal(second[0][2], fresh)


def test_each_phase_has_a_keeper_of_its_own(tmp_path):
    asked = []

    def keeper(phase):
        asked.append(phase)
        return tiny.mortal(tmp_path / str(phase))

    trainer(Phases(), keeper=keeper).train()
    assert asked == [0, 1]
    states = [Keeper(tmp_path / str(phase)).load() for phase in asked]
    assert [state["step"] for state in states] == [6, 14]


@pytest.mark.parametrize("dies_at", [2, 3, 4, 9])
def test_an_arm_of_phases_that_is_cut_off_anywhere_gives_the_same_bits(tmp_path, dies_at):
    def run(folder, dies_at=-1):
        count = tiny.Countdown(dies_at)
        one = trainer(
            Phases(), keeper=lambda p: tiny.Mortal(tmp_path / f"{folder}{p}", count=count)
        )
        return one.train().network, one.history

    network, history = run("whole")
    with pytest.raises(tiny.Died):
        run("cut", dies_at)
    again, told = run("cut")
    assert tiny.same(network.state_dict(), again.state_dict())
    assert history == told


def test_progress_is_reported_over_all_phases():
    calls = []
    recipe = tiny.recipe(SEEN, steps=200, batch_size=2)
    trainer(Phases(shares=(0.5, 0.5)), recipe, on_step=lambda *s: calls.append(s)).train()
    assert calls == [(step, 200) for step in range(1, 201)]


# features


def test_features_are_those_of_the_job_s_items_in_their_order():
    one, network = trainer(LinearProbe(), hidden=HELD, sources=[tiny.knowledge()]), tiny.network()
    found = one.embed(network)
    assert found.shape == (1, 20, 32)
    expected = embed(tiny.network(), SEEN.records[:20], 0, RECIPE, 0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_features_of_the_pool_are_those_of_the_job_s_pool():
    beside = tiny.items(6, seed=9, groups=["g11", "g10", "g0", "own", "g11", "other"])
    target = replace(tiny.target(SEEN), pool=tiny.pool_of(beside))
    one = trainer(LinearProbe(), target=target, hidden=HELD, sources=[tiny.knowledge()])
    found = one.embed(tiny.network(), pool=True)
    expected = embed(tiny.network(), beside.records[[2, 3, 5]], 0, RECIPE, 0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_without_a_pool_there_are_no_features_of_it():
    one = trainer(LinearProbe(), target=replace(tiny.target(SEEN), pool=None))
    with pytest.raises(ValueError, match="reads unlabelled items and was given none"):
        one.embed(tiny.network(), pool=True)


def test_features_go_by_the_standardisation_that_is_asked_for_else_by_the_job_s():
    one, network = trainer(LinearProbe(), sources=[tiny.knowledge()]), tiny.network()
    asked = one.embed(network, normal=FIXED)
    plain = embed(network, SEEN.records, 0, RECIPE, 0)
    assert torch.equal(one.embed(network), plain)
    assert torch.equal(asked, embed(network, SEEN.records, 0, replace(RECIPE, normal=FIXED), 0))
    assert not torch.equal(asked, plain)


def test_the_folds_of_an_arm_share_the_features_of_a_frozen_backbone():
    """The backbone is run over all items once, however many folds and seeds ask."""
    features, network, passes = Features(), tiny.network(), []
    network.backbone.register_forward_hook(lambda *_: passes.append(1))
    target = replace(tiny.target(SEEN), features=features)
    for hidden in (0, 4, 8):
        one = trainer(LinearProbe(), target=target, hidden=hidden, sources=[tiny.knowledge()])
        assert one.embed(network, 2).shape == (2, 24 - hidden, 32)
    assert len(passes) == 2


def test_a_loop_on_features_takes_those_of_the_items_it_is_given():
    """The labels of some items, with the features of the same ones."""
    some = SEEN.take(np.arange(24) % 2 == 1)
    seen = []

    class Part(LinearProbe):
        def train(self, job):
            prepared: Prepared = self.prepare(job.network(), job.knowledge, job.class_names)
            return Trained(job.fit(self, prepared, some), prepared.transfers)

        def loss(self, prepared, batch, progress):
            seen.append(batch.inputs.clone())
            return super().loss(prepared, batch, progress)

    one = trainer(Part(views=1), sources=[tiny.knowledge()])
    trained = one.train()
    backbone_spec = one.embed(trained.network, 1)[0]
    for inputs in seen:
        nearest = torch.cdist(inputs, backbone_spec).argmin(1)
        assert set((nearest % 2).tolist()) == {1}
