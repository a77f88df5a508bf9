"""The joint classifier's rows, the passes of two domains, and whose statistics are kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from tests.transfer.domains import batch, cross_entropies, inputs, seeded_generator
from transfer.core.errors import SettingsError
from transfer.methods.building_blocks import shared_head
from transfer.training.loop import Beside, fit
from transfer.training.method import Method


def ready(class_names=("betula", "fagus")):
    given = tiny.knowledge(class_names)
    net = tiny.network()
    return shared_head.joined(
        net, given, tiny.CLASSES, peak=0.1, backbone_rate=0.5, decay=0.3
    ), given


def statistics(net):
    return {k: t.clone() for k, t in net.state_dict().items() if "running" in k or "num" in k}


@pytest.mark.parametrize(
    "source", [("fagus", "betula"), ("fagus", "salix"), ("corylus", "acer", "betula")]
)
def test_shared_classes_share_a_row_and_the_others_keep_theirs(source):
    prepared, given = ready(source)
    head, own = prepared.network.head, prepared.helpers["source_head"]
    x = torch.randn(5, head.in_features, generator=seeded_generator(0))
    found = own(x, head)
    for i, name in enumerate(source):
        told = given.state["head.weight"][i], given.state["head.bias"][i]
        torch.testing.assert_close(found[:, i], x @ told[0] + told[1])
        if name in tiny.CLASSES:
            torch.testing.assert_close(found[:, i], head(x)[:, tiny.CLASSES.index(name)])
    shared = [tiny.CLASSES[i] for i in shared_head.shared_classes(prepared)]
    assert shared == [name for name in tiny.CLASSES if name in source]


def test_a_shared_row_learns_from_both_domains():
    prepared, _ = ready()
    head, own = prepared.network.head, prepared.helpers["source_head"]
    own(torch.ones(2, head.in_features), head)[:, 0].sum().backward()
    assert [bool(row.any()) for row in head.weight.grad] == [False, True, False]
    assert not own.weight.grad.any()


def test_a_joined_network_starts_from_the_source_and_trains_every_part_once():
    prepared, given = ready()
    for name, tensor in prepared.network.backbone.state_dict().items():
        assert torch.equal(tensor, given.state[f"backbone.{name}"])
    rate_of = {id(p): rate for group, rate in prepared.rates for p in group}
    assert [rate_of[id(p)] for p in prepared.helpers.parameters()] == [0.1, 0.1]
    stages = prepared.network.backbone.stages()
    first, last = (next(stage.parameters()) for stage in (stages[0], stages[-1]))
    assert rate_of[id(last)] == pytest.approx(0.05)
    assert rate_of[id(first)] == pytest.approx(0.05 * 0.3 ** (len(stages) - 1))
    assert len(rate_of) == len([*prepared.network.parameters(), *prepared.helpers.parameters()])


def test_a_source_without_classes_is_refused():
    with pytest.raises(SettingsError, match="trees has none; expected a source with a dataset"):
        given = replace(tiny.knowledge(), class_names=())
        shared_head.joined(
            tiny.network(), given, tiny.CLASSES, peak=0.1, backbone_rate=0.5, decay=0.3
        )


def test_the_passes_of_the_source_leave_no_trace_in_the_statistics():
    told = batch()
    prepared, _ = ready()
    net = prepared.network.train()
    shared_head.DomainFeatures(net, told)
    alone = ready()[0].network.train()
    alone.backbone(told.inputs)
    alone.backbone(told.pool.weak)
    assert tiny.same(statistics(net), statistics(alone))
    changed = replace(told, source=replace(told.source, inputs=told.source.inputs + 100))
    other = ready()[0].network.train()
    shared_head.DomainFeatures(other, changed)
    assert tiny.same(statistics(net), statistics(other))


def test_each_domain_is_standardised_by_its_own_batch():
    told = batch()
    net = ready()[0].network.train()
    found = shared_head.DomainFeatures(net, told)
    for features, own in (
        (found.source, told.source.inputs),
        (found.target, told.inputs),
        (found.pool, told.pool.weak),
    ):
        torch.testing.assert_close(features, ready()[0].network.train().backbone(own))


def test_in_evaluation_mode_the_running_statistics_go_on_being_used():
    told, net = batch(), ready()[0].network.eval()
    found = shared_head.DomainFeatures(net, told)
    torch.testing.assert_close(found.source, net.backbone(told.source.inputs))


def test_statistics_are_tracked_again_after_an_error():
    net = ready()[0].network.train()
    before = statistics(net)
    with pytest.raises(RuntimeError, match="stop"), shared_head.statistics_kept(net):
        net.backbone(inputs(4, 0))
        raise RuntimeError("stop")
    assert tiny.same(statistics(net), before)
    net.backbone(inputs(4, 0))
    assert not tiny.same(statistics(net), before)


def test_a_layer_without_running_statistics_stays_without():
    layer = torch.nn.BatchNorm2d(3, track_running_stats=False)
    with shared_head.statistics_kept(layer):
        pass
    assert not layer.track_running_stats


def test_an_empty_batch_of_the_target_is_not_forwarded():
    net = ready()[0].network.train()
    found = shared_head.DomainFeatures(net, batch(labelled=0))
    assert found.target is None
    source, target = found.domains()
    assert (len(source), len(target)) == (8, 10)
    assert all(t.isfinite().all() for t in net.state_dict().values())


def test_labelled_and_unlabelled_items_are_one_domain():
    found = shared_head.DomainFeatures(ready()[0].network, batch())
    source, target = found.domains()
    assert torch.equal(source, found.source)
    assert torch.equal(target, torch.cat([found.target, found.pool]))


def test_a_batch_of_one_domain_is_refused():
    net = ready()[0].network
    with pytest.raises(ValueError, match="items of the source and was given none"):
        shared_head.DomainFeatures(net, replace(batch(), source=None))
    with pytest.raises(ValueError, match="items of the target and was given none"):
        shared_head.DomainFeatures(net, batch(labelled=0, unlabelled=0)).domains()


@pytest.mark.parametrize("classes", [("betula", "fagus"), tiny.CLASSES, ("fagus", "salix")])
def test_the_terms_are_cross_entropies_over_each_domains_own_classes(classes):
    prepared, _ = ready(classes)
    told = batch(classes=len(classes))
    found = shared_head.DomainFeatures(prepared.network.eval(), told)
    weights = torch.linspace(0, 3, 8)
    terms = shared_head.supervised(prepared, told, found)
    weighted = shared_head.supervised(prepared, told, found, weights)
    head = prepared.network.head
    own = cross_entropies(head(found.target), told.targets)
    assert float(terms["cross_entropy"].detach()) == pytest.approx(own.mean(), rel=1e-5)
    scores = prepared.helpers["source_head"](found.source, head)
    other = cross_entropies(scores, told.source.targets)
    assert float(terms["source"].detach()) == pytest.approx(other.mean(), rel=1e-5)
    expected = (weights.numpy() * other).mean()
    assert float(weighted["source"].detach()) == pytest.approx(expected, rel=1e-5)


def test_without_labels_the_source_alone_teaches():
    prepared, _ = ready()
    told = batch(labelled=0)
    terms = shared_head.supervised(
        prepared, told, shared_head.DomainFeatures(prepared.network, told)
    )
    assert list(terms) == ["source"]


class Both(Method):
    """Cross-entropies of both domains, with the backbone held: only statistics move."""

    reads_source = True
    reads_pool = True

    def loss(self, prepared, batch, progress):
        return shared_head.supervised(
            prepared, batch, shared_head.DomainFeatures(prepared.network, batch)
        )


@pytest.mark.parametrize("labelled", [0, 12])
def test_a_trained_network_keeps_the_statistics_of_the_target(labelled):
    """Of the first layer's responses, whose mean and variance are measured here on all pictures:
    the source's are far away."""
    seen = tiny.items()
    dark = tiny.source()
    dark = replace(dark, items=replace(dark.items, records=dark.items.records // 4))
    prepared, _ = ready(tiny.CLASSES[:2])
    backbone_spec = prepared.network.backbone
    backbone_spec.stem[0].requires_grad_(False)
    prepared.rates = [(list(prepared.network.head.parameters()), 1e-3)]
    recipe = tiny.recipe(seen, steps=60, batch_size=12)
    taken = seen.take(np.arange(len(seen)) < labelled)
    net, _ = fit(Both(), prepared, taken, recipe, seed=0, beside=Beside(dark, tiny.pool_of(seen)))

    def measured(images, normal):
        out = net.backbone.stem[0](normal.apply(images.float() / 255)).transpose(0, 1).flatten(1)
        return out.mean(dim=1), out.var(dim=1)

    mean, variance = measured(seen.records, recipe.normal)
    norm = net.backbone.stem[1]
    torch.testing.assert_close(norm.running_mean, mean, atol=0.05, rtol=0)
    torch.testing.assert_close(norm.running_var, variance, rtol=0.05, atol=0)
    far = measured(dark.items.records, dark.normal)
    assert (far[0] - mean).abs().max() > 0.25
