"""Reptile as a method: its backbone is meta-learned once, then fine-tuned on the target alone."""

from dataclasses import replace

import pytest
import torch

from tests.transfer import tiny
from transfer.core.errors import DataRefusedError
from transfer.methods.building_blocks import reptile_loop
from transfer.methods.building_blocks.reptile_loop import Plan
from transfer.methods.source_data.reptile import Reptile
from transfer.modalities.normalisation import Normalisation

SHORT = Plan(episodes=3, ways=2, shots=2, inner_steps=2)
FROZEN = Reptile(learning_rate=1e-12, meta=SHORT)


def trained(method, *, steps=2, seed=0, source=None, sources=None, hidden=0):
    seen = tiny.items()
    target = replace(tiny.target(seen), source=source or tiny.source())
    recipe = tiny.recipe(seen, steps=steps)
    given = {"sources": sources, "target": target, "seed": seed, "hidden": hidden}
    return tiny.trainer(method, seen, recipe, **given).train()


def backbone_spec(result):
    return {name: t for name, t in result.network.named_parameters() if "backbone" in name}


def test_fine_tuning_starts_from_the_meta_learned_backbone():
    """A learning rate of nothing keeps the start: what Reptile made of the source's weights."""
    start = tiny.network()
    start.load_state_dict(
        {n: t for n, t in tiny.knowledge().state.items() if "head" not in n}, strict=False
    )
    recipe = tiny.recipe(tiny.items())
    learned = reptile_loop.reptile(start.backbone, tiny.source(), SHORT, recipe).state
    for name, parameter in backbone_spec(trained(FROZEN)).items():
        expected = learned[name.removeprefix("backbone.")]
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)
    source = tiny.knowledge().state
    assert any(
        not torch.equal(tensor, source[f"backbone.{name}"]) for name, tensor in learned.items()
    )


def test_the_meta_learned_backbone_depends_on_neither_seed_nor_target():
    one, two = trained(FROZEN, seed=0), trained(FROZEN, seed=5, hidden=6)
    for first, second in zip(backbone_spec(one).values(), backbone_spec(two).values(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


def test_all_seeds_share_one_meta_learning(monkeypatch):
    memory, made = reptile_loop.Memory(), []
    monkeypatch.setattr("transfer.methods.source_data.reptile.MEMORY", memory)
    for seed in range(3):
        trained(FROZEN, seed=seed)
        made.append(next(iter(memory._kept.values())))
    assert len(memory._kept) == 1 and made[0] is made[1] is made[2]


def test_the_notes_tell_the_images_of_the_source():
    notes = trained(FROZEN).notes
    assert notes == {"meta_learning": "3 episodes, 24 items of the source"}


def test_a_frozen_normalisation_is_that_of_the_weights():
    """Pixels of the source are standardised as the weights were trained, where that is fixed."""
    other = Normalisation(mean=(0.1,), std=(0.7,))
    given = replace(tiny.knowledge(), normal=other, fixed_normal=True)
    as_told = trained(FROZEN, sources=[given])
    told = trained(FROZEN, sources=[given], source=replace(tiny.source(), normal=other))
    assert tiny.same(as_told.network.state_dict(), told.network.state_dict())


def test_a_source_of_one_class_is_refused():
    with pytest.raises(DataRefusedError, match="items of 1 class in the source"):
        trained(FROZEN, source=tiny.source(8, ("betula",)))


def test_a_run_without_the_sources_items_says_so():
    seen = tiny.items()
    target = replace(tiny.target(seen), source=None)
    with pytest.raises(ValueError, match="reads the source's items and was given none"):
        tiny.trainer(Reptile(), seen, tiny.recipe(seen, steps=1), target=target).train()
