"""Whatever lies in transfer/methods/ keeps the promises of the seam."""

import inspect
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional

from tests.transfer import tiny
from transfer.arms import adapt
from transfer.core.config import Section
from transfer.core.errors import CrosstrainError
from transfer.methods.fine_tuning.delta import Delta
from transfer.methods.lookup import known
from transfer.modalities.image.augment import AugmentPolicy
from transfer.models.network import Network
from transfer.settings.project import Settings
from transfer.settings.reference import rows
from transfer.training import frozen, loop
from transfer.training.batches import logits
from transfer.training.method import FineTuning, Method, Prepared

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
    file = Path(__file__).parent / family / f"test_{name}.py"
    assert file.is_file(), f"the method {name} has no test: write {file.relative_to(ROOT)}"


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
def test_it_is_in_the_settings_and_in_their_reference(name):
    assert isinstance(getattr(Settings().methods, name), METHODS[name])
    assert set(Settings().methods.model_dump()) == set(METHODS)
    listed = {row.name: row.default for row in rows(f"methods.{name}")} if flat(name) else {}
    assert {key: yaml.safe_load(value) for key, value in listed.items()} == flat(name)


def flat(name):
    """Default of each setting of a method by its dotted name; a mapping is one setting."""
    leaves, waiting = {}, {f"methods.{name}": METHODS[name]()}
    while waiting:
        key, section = waiting.popitem()
        plain = section.model_dump(mode="json")
        for field in type(section).model_fields:
            value = getattr(section, field)
            if isinstance(value, Section):
                waiting[f"{key}.{field}"] = value
            else:
                leaves[f"{key}.{field}"] = plain[field]
    return leaves


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


# What is frozen


@dataclass
class Phase:
    """One run of the training loop, with the tensors of its network and helpers."""

    prepared: Prepared
    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]

    def names(self, tensors):
        """Names of some tensors of the network and its helpers."""
        places = {id(tensor): key for key, tensor in everything(self.prepared)}
        return {places[id(tensor)] for tensor in tensors}

    def moved(self):
        """Names of the tensors that the loop changed."""
        both = self.before.keys() & self.after.keys()
        return {key for key in both if not torch.equal(self.before[key], self.after[key])}


def everything(ready):
    """Every parameter and buffer, by a name."""
    for prefix, net in (("", ready.network), ("helpers.", ready.helpers)):
        for key, tensor in (*net.named_parameters(), *net.named_buffers()):
            yield prefix + key, tensor


def tensors_of(part):
    return [*part.parameters(), *part.buffers()] if isinstance(part, nn.Module) else [part]


def run_phases(method, monkeypatch, steps=6, sources=None):
    """Train one network by a method, and return its runs of the loop."""
    phases = []

    class Noted(loop._Loop):
        def __init__(self, *told):
            super().__init__(*told)
            self.phase = Phase(self.prepared, dict(self.copied()), {})

        def copied(self):
            return [(key, t.detach().clone()) for key, t in everything(self.prepared)]

        def close(self):
            self.phase.after = dict(self.copied())
            phases.append(self.phase)
            return super().close()

    monkeypatch.setattr(loop, "_Loop", Noted)
    seen = tiny.items()
    recipe = tiny.recipe(seen, AugmentPolicy(), steps=steps, batch_size=12)
    result = tiny.trainer(method, seen, recipe, sources=sources or sources_of(method)).train()
    return phases, result


def check_frozen(phase):
    """What is declared frozen did not move; what is not trained was declared; the rest may move."""
    declared = phase.names(t for part in phase.prepared.frozen for t in tensors_of(part))
    trained = phase.names(trained_on(phase.prepared))
    moved = phase.moved()
    assert not moved & declared, f"declared frozen and moved: {sorted(moved & declared)}"
    assert not declared & trained, f"declared frozen and trained: {sorted(declared & trained)}"
    own = {key for key, _ in phase.prepared.network.named_parameters()}
    silent = own - trained - declared
    assert not silent, f"neither trained nor declared frozen: {sorted(silent)}"
    assert moved & trained, "nothing that is trained has moved"


@every_method
def test_what_it_declares_frozen_stays_and_all_that_stays_is_declared(name, monkeypatch):
    method = METHODS[name]()
    phases, _ = run_phases(method, monkeypatch)
    assert phases or method.train.__func__ is not Method.train
    for phase in phases:
        check_frozen(phase)


@pytest.mark.parametrize("name", [n for n, kind in METHODS.items() if not kind.trains_backbone])
def test_a_method_that_does_not_train_the_backbone_keeps_the_sources_bit_for_bit(name, monkeypatch):
    """The statistics of its normalisation too, though closed forms never run the loop."""
    method = METHODS[name]()
    sources = sources_of(method)
    _, result = run_phases(method, monkeypatch, sources=sources)
    found = {k: t for k, t in result.network.state_dict().items() if k.startswith("backbone.")}
    given = {k: t for k, t in sources[0].state.items() if k.startswith("backbone.")}
    if method.combines:
        given = {
            f"backbone.parts.{i}.{key.removeprefix('backbone.')}": tensor
            for i, source in enumerate(sources)
            for key, tensor in source.state.items()
            if key.startswith("backbone.")
        }
    assert tiny.same(found, given)


def test_head_first_phases_declare_the_backbone_too(monkeypatch):
    for method in (Delta(attention=0.4), METHODS["lp_ft"](), METHODS["wise_ft"]()):
        (first, second), _ = run_phases(method, monkeypatch)
        assert any(part is first.prepared.network.backbone for part in first.prepared.frozen)
        for phase in (first, second):
            check_frozen(phase)
        statistics = {key for key in second.moved() if key.endswith("running_mean")}
        assert any(not key.startswith("helpers.") for key in statistics)


class KeepsQuiet(FineTuning):
    """Freezes its first stage and does not say so."""

    def prepare(self, network, knowledge, class_names):
        ready = super().prepare(network, knowledge, class_names)
        first = network.backbone.stages()[0].requires_grad_(False)
        own = {id(p) for p in first.parameters()}
        ready.rates = [(g, r) for g, r in ready.rates if not own & {id(p) for p in g}]
        return ready


class SaysTooMuch(FineTuning):
    """Declares its normalisation frozen, and lets its statistics move all the same."""

    def prepare(self, network, knowledge, class_names):
        ready = METHODS["freeze_norm"]().prepare(network, knowledge, class_names)
        return replace(ready, rates=ready.rates)

    def loss(self, prepared, batch, progress):
        prepared.network.train()
        return super().loss(prepared, batch, progress)


@pytest.mark.parametrize(
    ("method", "told"),
    [(KeepsQuiet(), "neither trained nor declared frozen"), (SaysTooMuch(), "frozen and moved")],
)
def test_the_check_catches_a_method_that_lies(method, told, monkeypatch):
    monkeypatch.setattr(frozen.Frozen, "check", lambda self: None)  # the loop's own check
    phases, _ = run_phases(method, monkeypatch, sources=[tiny.knowledge()])
    with pytest.raises(AssertionError, match=told):
        for phase in phases:
            check_frozen(phase)


def test_the_loop_itself_ends_the_training_of_a_method_that_lies(monkeypatch):
    with pytest.raises(CrosstrainError, match=r"SaysTooMuch declares .*running_mean frozen and"):
        run_phases(SaysTooMuch(), monkeypatch, sources=[tiny.knowledge()])


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
    recipe = trainer.input_recipe(result)
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
