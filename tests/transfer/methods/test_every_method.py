"""Whatever lies in transfer/methods/ keeps the promises of the seam."""

import inspect
import re
from pathlib import Path

import pytest
import torch
import yaml

from tests.transfer import tiny
from transfer import adapt
from transfer.feed import embed, logits, training_batch
from transfer.fit import fit
from transfer.method import Batch, Method, Prepared, known
from transfer.modalities.image.augment import AugmentPolicy
from transfer.network import Network
from transfer.settings import Settings

ROOT = Path(__file__).parents[3]
METHODS = known()
every_method = pytest.mark.parametrize("name", METHODS)


def prepared(name, seed=0):
    method = METHODS[name]()
    given = tiny.knowledge() if method.uses_source else None
    return method, method.prepare(tiny.network(seed=seed), given, tiny.CLASSES)


def features(method, ready, seen, recipe):
    return embed(ready.network, seen, ready.views, recipe, 0) if ready.views else None


def batch(ready, seen, recipe):
    full = training_batch(seen, torch.arange(8), recipe, 0, 0)
    if not ready.views:
        return full
    with torch.no_grad():
        return Batch(ready.network.eval().backbone(full.inputs), full.targets)


def trained(ready):
    return [parameter for parameters, _ in ready.rates for parameter in parameters]


@every_method
def test_it_has_a_test_file_of_its_own_name(name):
    assert Path(__file__).with_name(f"test_{name}.py").is_file()


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
        kind().learning_rate = 1.0
    with pytest.raises(ValueError, match="no_such_field"):
        kind(no_such_field=1)


@every_method
def test_it_is_in_the_settings_and_in_params_yaml(name):
    assert isinstance(getattr(Settings().methods, name), METHODS[name])
    told = yaml.safe_load((ROOT / "params.yaml").read_text())["methods"]
    assert set(told) == set(METHODS)
    assert told[name] == METHODS[name]().model_dump(mode="json")


@every_method
def test_it_prepares_groups_of_parameters_that_train_once_each(name):
    _, ready = prepared(name)
    assert isinstance(ready, Prepared)
    chosen = trained(ready)
    assert len({id(p) for p in chosen}) == len(chosen) > 0
    own = {id(p) for p in ready.network.parameters()}
    assert {id(p) for p in chosen} <= own
    assert {id(p) for p in ready.network.parameters() if p.requires_grad} == {id(p) for p in chosen}
    assert all(rate > 0 for _, rate in ready.rates)


@every_method
def test_it_maps_every_tensor(name):
    _, ready = prepared(name)
    assert [t.tensor for t in ready.transfers] == list(ready.network.state_dict())
    fresh = {t.action for t in ready.transfers} == {"reinitialised"}
    assert fresh != METHODS[name].uses_source


@every_method
def test_preparing_twice_gives_the_same_bits(name):
    one, two = prepared(name)[1], prepared(name)[1]
    assert tiny.same(one.network.state_dict(), two.network.state_dict())
    assert tiny.same(one.reference, two.reference)


@every_method
def test_a_method_that_needs_a_source_says_so(name):
    if METHODS[name].uses_source:
        with pytest.raises(ValueError, match="transfers from a source and was given none"):
            METHODS[name]().prepare(tiny.network(), None, tiny.CLASSES)


@every_method
def test_a_method_without_a_source_ignores_it(name):
    if not METHODS[name].uses_source:
        net = tiny.network()
        METHODS[name]().prepare(net, tiny.knowledge(), tiny.CLASSES)
        assert tiny.same(net.state_dict(), tiny.network().state_dict())


@every_method
def test_its_terms_are_finite_scalars_and_gradients_reach_what_is_trained_alone(name):
    method, ready = prepared(name)
    seen = tiny.items()
    terms = method.loss(ready, batch(ready, seen, tiny.recipe(seen)), 0.5)
    assert terms
    for term in terms.values():
        assert term.shape == () and term.isfinite()
    sum(terms.values()).backward()
    chosen = {id(p) for p in trained(ready)}
    for label, parameter in ready.network.named_parameters():
        if id(parameter) in chosen:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, label
        else:
            assert parameter.grad is None, label


@every_method
def test_it_finishes_with_a_network(name):
    method, ready = prepared(name)
    kept = method.finish(ready)
    assert isinstance(kept, Network)
    assert kept.head.out_features == 3


@every_method
def test_some_steps_teach_it_and_leave_alone_what_it_freezes(name):
    method, ready = prepared(name)
    seen = tiny.items()
    recipe = tiny.recipe(seen, steps=40, batch_size=12)
    body, chosen = tiny.state(ready.network.backbone), {id(p) for p in trained(ready)}
    frozen = {n: p.clone() for n, p in ready.network.named_parameters() if id(p) not in chosen}
    before = torch.nn.functional.cross_entropy(
        logits(ready.network, seen.images, recipe), seen.labels
    )
    kept, history = fit(
        method, ready, seen, recipe, seed=0, features=features(method, ready, seen, recipe)
    )
    after = torch.nn.functional.cross_entropy(logits(kept, seen.images, recipe), seen.labels)
    assert after < before
    assert history.loss[-1] < history.loss[0]
    assert tiny.same({n: p for n, p in kept.named_parameters() if n in frozen}, frozen)
    if ready.views:
        assert tiny.same(kept.backbone.state_dict(), body)
    else:
        assert not torch.equal(kept.backbone.stem[1].running_mean, body["stem.1.running_mean"])


@every_method
@pytest.mark.parametrize("dies_at", [(0, 3), (1, 4)])
def test_an_arm_cut_off_in_any_fold_gives_the_same_bits(name, dies_at, tmp_path):
    seen = tiny.items()
    recipe = tiny.recipe(seen, AugmentPolicy(), steps=6)
    target = tiny.target(seen, folds=2)
    method = METHODS[name]()

    def arm(dies=(-1, -1), folder="kept"):
        def keeper(fold):
            return tiny.mortal(tmp_path / f"{folder}.{fold}", dies[1] if fold == dies[0] else -1)

        return adapt.adapt(name, method, tiny.knowledge(), target, recipe, seed=2, keeper=keeper)

    whole = arm(folder="whole")
    with pytest.raises(tiny.Died):
        arm(dies_at)
    again = arm()
    assert torch.equal(whole.scores, again.scores)
    assert whole.histories == again.histories
    for one, two in zip(whole.networks, again.networks, strict=True):
        assert tiny.same(one.state_dict(), two.state_dict())
