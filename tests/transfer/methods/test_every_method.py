"""Whatever lies in transfer/methods/ keeps the promises of the seam."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional

from tests.transfer import tiny
from transfer.arms import adapt
from transfer.methods.lookup import known
from transfer.modalities.image.augment import AugmentPolicy
from transfer.models.network import Network
from transfer.settings.project import Settings
from transfer.training.batches import logits
from transfer.training.method import Method

ROOT = Path(__file__).parents[3]
METHODS = known()
SAME = tiny.knowledge(tiny.CLASSES)
every_method = pytest.mark.parametrize("name", METHODS)
prepares = pytest.mark.parametrize(
    "name", [name for name, kind in METHODS.items() if kind.prepare is not Method.prepare]
)
unlabelled = pytest.mark.parametrize(
    "name", [name for name, kind in METHODS.items() if not kind.needs_labels]
)


def sources_of(method):
    """Knowledge sources that the method can use: it may need to know every class."""
    names = ("betula", "fagus") if method.new_classes else tiny.CLASSES
    return [tiny.knowledge(names), tiny.knowledge(names, seed=200)][: 2 if method.combines else 1]


def prepared(name, seed=0):
    method = METHODS[name]()
    given = sources_of(method)[0] if method.uses_source else None
    return method, method.prepare(tiny.network(seed=seed), given, tiny.CLASSES)


def trained_on(ready):
    return [parameter for parameters, _ in ready.rates for parameter in parameters]


@pytest.fixture(scope="module")
def trained():
    """Each method, trained once on 24 items for 40 steps: seen items, the trainer, its result."""
    kept = {}

    def train(name):
        if name not in kept:
            seen = tiny.items()
            method = METHODS[name]()
            recipe = tiny.recipe(seen, AugmentPolicy(), steps=40, batch_size=12)
            trainer = tiny.trainer(method, seen, recipe, sources=sources_of(method))
            kept[name] = seen, trainer, trainer.train()
        return kept[name]

    return train


@every_method
def test_it_has_a_test_file_of_its_own_name(name):
    family = METHODS[name].__module__.split(".")[-2]
    assert (Path(__file__).parent / family / f"test_{name}.py").is_file()


@every_method
def test_its_docstring_says_what_it_is_for_and_names_its_source(name):
    kind = METHODS[name]
    told = inspect.getmodule(kind).__doc__ + (kind.__dict__["__doc__"] or "")
    assert len(told) > 60
    if kind.uses_source:
        assert re.search(r"\w+.*\b(19|20)\d\d\b", told), "name the paper and its year"


@every_method
def test_it_is_a_frozen_group_of_described_settings(name):
    kind = METHODS[name]
    assert issubclass(kind, Method)
    for field, info in kind.model_fields.items():
        assert info.description, f"{field} lacks a docstring"
    with pytest.raises(ValueError, match="frozen"):
        setattr(kind(), next(iter(kind.model_fields), "learning_rate"), 1.0)
    with pytest.raises(ValueError, match="no_such_field"):
        kind(no_such_field=1)


@every_method
def test_it_is_in_the_settings_and_in_params_yaml(name):
    assert isinstance(getattr(Settings().methods, name), METHODS[name])
    told = yaml.safe_load((ROOT / "params.yaml").read_text())["methods"]
    assert set(told) == set(METHODS)
    assert told[name] == METHODS[name]().model_dump(mode="json")


@prepares
def test_it_prepares_groups_of_parameters_that_train_once_each(name):
    _, ready = prepared(name)
    chosen = trained_on(ready)
    assert len({id(p) for p in chosen}) == len(chosen) > 0
    own = {id(p) for net in (ready.network, ready.helpers) for p in net.parameters()}
    assert {id(p) for p in chosen} <= own
    training = {id(p) for p in ready.network.parameters() if p.requires_grad}
    assert training <= {id(p) for p in chosen}
    assert all(rate > 0 for _, rate in ready.rates)


@prepares
def test_preparing_twice_gives_the_same_bits(name):
    one, two = prepared(name)[1], prepared(name)[1]
    assert tiny.same(one.network.state_dict(), two.network.state_dict())
    assert tiny.same(one.helpers.state_dict(), two.helpers.state_dict())
    assert tiny.same(one.reference, two.reference)


@every_method
def test_a_method_that_needs_a_source_says_so(name):
    method, seen = METHODS[name](), tiny.items()
    if method.uses_source:
        trainer = tiny.trainer(method, seen, tiny.recipe(seen, steps=1), sources=[])
        with pytest.raises(ValueError, match="and was given none"):
            trainer.train()


@every_method
def test_a_method_without_a_source_ignores_it(name):
    method, seen = METHODS[name](), tiny.items()
    if not method.uses_source:
        recipe = tiny.recipe(seen, steps=2)
        one, two = (
            tiny.trainer(method, seen, recipe, sources=sources).train().network
            for sources in ([], [tiny.knowledge()])
        )
        assert tiny.same(one.state_dict(), two.state_dict())


@every_method
def test_it_hands_back_a_finished_network_for_the_targets_classes(name, trained):
    seen, _, result = trained(name)
    assert isinstance(result.network, Network)
    assert result.network.head.out_features == 3
    assert not result.network.training
    assert not any(p.requires_grad for p in result.network.parameters())
    assert all(t.isfinite().all() for t in result.network.state_dict().values())
    assert all(isinstance(v, float | str) for v in result.notes.values())
    assert len(seen) == 24


@every_method
def test_it_maps_every_tensor_and_says_what_came_from_the_source(name, trained):
    _, _, result = trained(name)
    assert [t.tensor for t in result.transfers] == list(result.network.state_dict())
    if not METHODS[name].uses_source:
        assert {t.action for t in result.transfers} == {"reinitialised"}


@every_method
def test_it_learns(name, trained):
    seen, trainer, result = trained(name)
    recipe = trainer.seen_by(result)
    scores = logits(result.network, seen.records, recipe)
    chance = torch.full_like(scores, 1 / 3)
    assert functional.cross_entropy(scores, seen.labels) < functional.cross_entropy(
        chance, seen.labels
    )
    assert (scores.argmax(1) == seen.labels).float().mean() > 0.5


@every_method
def test_held_out_items_leave_no_trace(name):
    """Neither pictures nor labels of items that a fold holds out, in the labelled set or the pool,
    change the network."""
    method, seen = METHODS[name](), tiny.items()
    recipe = tiny.recipe(seen, steps=2)
    changed = seen.records.clone()
    changed[-4:] = 255 - changed[-4:]
    labels = seen.labels.clone()
    labels[-4:] = (labels[-4:] + 1) % 3
    states = []
    for images, told in ((seen.records, seen.labels), (changed, labels)):
        items = replace(seen, records=images, labels=told)
        target = replace(tiny.target(items), pool=tiny.pool_of(items))
        trainer = tiny.trainer(
            method, items, recipe, sources=sources_of(method), target=target, hidden=4
        )
        states.append(trainer.train().network)
    assert tiny.same(states[0].state_dict(), states[1].state_dict())


@every_method
@pytest.mark.parametrize("when", [pytest.param(0.3, marks=pytest.mark.slow), 0.8])
def test_an_arm_cut_off_anywhere_gives_the_same_bits(name, when, tmp_path):
    seen = tiny.items()
    recipe = tiny.recipe(seen, AugmentPolicy(), steps=6)
    target = tiny.target(seen, folds=2)
    method = METHODS[name]()
    sources = sources_of(method)

    def arm(folder, count):
        def keeper(fold, phase):
            return tiny.Mortal(tmp_path / f"{folder}.{fold}.{phase}", count=count)

        return adapt.adapt(name, method, sources, target, recipe, seed=2, keeper=keeper)

    saves = tiny.Countdown()
    whole = arm("whole", saves)
    if saves.saved:
        with pytest.raises(tiny.Died):
            arm("kept", tiny.Countdown(dies_at=max(1, round(when * saves.saved))))
    again = arm("kept", tiny.Countdown())
    assert torch.equal(whole.scores, again.scores)
    for one, two in zip(whole.histories, again.histories, strict=True):
        assert one == two
    for one, two in zip(whole.networks, again.networks, strict=True):
        assert tiny.same(one.state_dict(), two.state_dict())


@unlabelled
def test_it_works_without_a_single_label(name):
    """With all classes shared: a network comes back, and it is not the pool's labels it learned."""
    method, seen = METHODS[name](), tiny.items()
    recipe = tiny.recipe(seen, AugmentPolicy(), steps=4)
    none = seen.take(torch.zeros(24, dtype=torch.bool).numpy())
    source = tiny.source(class_names=tiny.CLASSES)
    target = replace(tiny.target(none, folds=0), pool=tiny.pool_of(seen), source=source)
    result = tiny.trainer(method, none, recipe, sources=[SAME], target=target).train()
    scores = logits(result.network, seen.records, recipe)
    assert scores.isfinite().all() and scores.shape == (24, 3)
