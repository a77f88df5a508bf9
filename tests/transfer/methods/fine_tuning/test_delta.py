"""The distance of feature maps against NumPy, its weights by hand, and that it pulls."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.transfer import tiny
from transfer.core.errors import SettingsError
from transfer.methods.fine_tuning import delta
from transfer.methods.fine_tuning.delta import Delta, distance, maps_of
from transfer.modalities.image.augment import AugmentPolicy
from transfer.training.batches import logits, training_batch
from transfer.training.loop import fit


def ready_with_batch(method, moved=0.1):
    ready = method.prepare(tiny.network(), tiny.knowledge(), tiny.CLASSES)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in ready.network.parameters():
            parameter.add_(moved * torch.randn(parameter.shape, generator=rng))
    seen = tiny.items()
    return ready, training_batch(seen, torch.arange(8), tiny.recipe(seen), 0, 0)


def staged(backbone_spec, images):
    """Outputs of the stages, by calling them one after another."""
    maps = []
    with torch.no_grad():
        for stage in backbone_spec.stages():
            images = stage(images)
            maps.append(images.double().numpy())
    return maps


def test_its_terms_are_those_of_the_docstring():
    method = Delta(alpha=0.3)
    ready, batch = ready_with_batch(method)
    terms = {k: float(v.detach()) for k, v in method.loss(ready, batch, 0.0).items()}
    source = tiny.network(classes=2)
    source.load_state_dict(tiny.knowledge().state)
    now = staged(ready.network.train().backbone, batch.inputs)
    start = staged(source.backbone.eval(), batch.inputs)
    expected = 0.3 * sum(((a - b) ** 2).mean() for a, b in zip(now, start, strict=True))
    assert len(now) == 4 and terms["feature_maps"] == pytest.approx(expected, rel=1e-4)
    with torch.no_grad():
        scores = ready.network(batch.inputs).double().numpy()
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    wanted = -(batch.targets.numpy() * logs).sum(1).mean()
    assert terms["cross_entropy"] == pytest.approx(wanted, rel=1e-4)


def test_weights_of_channels_weigh_them():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 3, 5, 4, 6))
    weights = rng.dirichlet(np.ones(5))
    expected = 0.0
    for c in range(5):
        expected += weights[c] * np.mean([(one[n, c] - other[n, c]) ** 2 for n in range(3)])
    found = distance(*(torch.tensor(a) for a in (one, other, weights)))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_equal_weights_are_no_weights():
    one, other = torch.rand(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    even = torch.full((5,), 0.2)
    torch.testing.assert_close(distance(one, other, even), distance(one, other))


def test_maps_of_any_shape_have_a_distance():
    one, other = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    expected = ((one - other) ** 2).numpy().mean()
    assert float(distance(one, other)) == pytest.approx(expected, rel=1e-5)


def test_in_evaluation_mode_it_starts_at_nothing():
    """In training mode it does not: the source's copy normalises by the source's statistics."""
    method = Delta()
    ready, batch = ready_with_batch(method, moved=0.0)
    ready.network.eval()
    assert float(method.loss(ready, batch, 0.0)["feature_maps"].detach()) == 0
    ready.network.train()
    assert float(method.loss(ready, batch, 0.0)["feature_maps"].detach()) > 0


def test_a_pass_leaves_no_hooks_behind():
    net = tiny.network()
    with pytest.raises(RuntimeError), maps_of(net.backbone):
        net(torch.zeros(1, 2, 12, 12))
    assert not any(m._forward_hooks for m in net.modules())


def test_a_stronger_pull_ends_nearer_to_the_sources_maps():
    seen, found = tiny.items(), []
    recipe = tiny.recipe(seen, steps=25, weight_decay=0)
    for alpha in (0.0, 0.3, 100.0):
        method = Delta(learning_rate=0.01, alpha=alpha)
        ready, batch = ready_with_batch(method, moved=0.0)
        kept, _ = fit(method, ready, seen, recipe, seed=0)
        pairs = zip(
            staged(kept.backbone, batch.inputs),
            staged(ready.helpers["source"], batch.inputs),
            strict=True,
        )
        found.append(sum(((a - b) ** 2).mean() for a, b in pairs))
    assert found[0] > found[1] > found[2]


def test_the_copy_of_the_source_does_not_move():
    method, seen = Delta(), tiny.items()
    ready, _ = ready_with_batch(method)
    before = tiny.state(ready.helpers)
    fit(method, ready, seen, tiny.recipe(seen, AugmentPolicy(), steps=3), seed=0)
    assert tiny.same(before, ready.helpers.state_dict())
    assert not ready.helpers["source"].training


# attention


def test_attention_is_the_softmax_of_what_the_loss_grows_without_a_channel():
    net, seen = tiny.network(), tiny.items()
    recipe = tiny.recipe(seen)
    found = delta.attention(net, seen, recipe)
    assert [len(part) for part in found] == [4, 8, 16, 32]
    images = recipe.normal.apply(seen.records.float() / 255)
    backbone_spec, losses = net.eval().backbone, []
    with torch.no_grad():
        hidden = backbone_spec.block1(backbone_spec.stem(images))
        for c in range(-1, 8):
            cut = hidden.clone()
            if c >= 0:
                cut[:, c] = 0
            scores = net.head(backbone_spec.block3(backbone_spec.block2(cut)).mean((2, 3)))
            losses.append(float(functional.cross_entropy(scores, seen.labels)))
    growth = np.array(losses[1:]) - losses[0]
    expected = np.exp(growth) / np.exp(growth).sum()
    np.testing.assert_allclose(found[1].numpy(), expected, rtol=1e-4)


def test_a_channel_that_nothing_reads_weighs_least_of_those_that_help():
    net, seen = tiny.network(), tiny.items()
    with torch.no_grad():
        net.head.weight[:, 5:] = 0
    recipe = tiny.recipe(seen)
    whole = functional.cross_entropy(logits(net, seen.records, recipe), seen.labels)
    last = delta.attention(net, seen, recipe)[-1]
    torch.testing.assert_close(last[5:], last[5].expand(27))
    with torch.no_grad():
        net.head.weight[:, 0] = 0
    without = functional.cross_entropy(logits(net, seen.records, recipe), seen.labels)
    torch.testing.assert_close(last[0] / last[5], (without - whole).exp())


def test_with_attention_the_head_comes_first_within_one_budget():
    seen = tiny.items()
    recipe = tiny.recipe(seen, steps=10)
    trainer = tiny.trainer(Delta(attention=0.4), seen, recipe)
    weighed = trainer.train().network
    assert trainer.steps == 10 and trainer.phases == 2
    plain = tiny.trainer(Delta(), seen, recipe)
    assert not tiny.same(weighed.state_dict(), plain.train().network.state_dict())
    assert plain.phases == 1


def test_attention_refuses_a_backbone_whose_stages_are_no_maps():
    net, seen = tiny.network(), tiny.items()
    net.backbone.block3.register_forward_hook(lambda module, inputs, output: output.flatten(2))
    net.backbone.forward = lambda images: _flat(net.backbone, images)
    with pytest.raises(SettingsError, match="set attention to 0"):
        delta.attention(net, seen, tiny.recipe(seen))


def _flat(backbone_spec, images):
    return backbone_spec.block3(
        backbone_spec.block2(backbone_spec.block1(backbone_spec.stem(images)))
    ).mean(2)
