"""The corrected weights against NumPy, what trains, and that a plain network comes back."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.transfer import tiny
from transfer.methods.fine_tuning import lora
from transfer.methods.fine_tuning.lora import LoRA, LowRank
from transfer.modalities.image.augment import AugmentPolicy
from transfer.models.network import build
from transfer.training.loop import fit

INNER = "backbone.block2.first"


def ready(method, seed=0):
    return method.prepare(tiny.network(seed=seed), tiny.knowledge(), tiny.CLASSES)


def trained(method, steps=8, **kwargs):
    seen = tiny.items()
    recipe = tiny.recipe(seen, AugmentPolicy(), steps=steps, average=0, **kwargs)
    return tiny.trainer(method, seen, recipe).train()


def rank_of(change):
    values = np.linalg.svd(change.double().flatten(1).numpy(), compute_uv=False)
    return int((values > 1e-4 * values[0]).sum())


@pytest.mark.parametrize("shape", [(6, 5), (6, 4, 3, 3)])
def test_a_corrected_weight_is_that_of_the_paper(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    part = LowRank(weight, 2, 1.7, torch.Generator().manual_seed(2))
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, weight[0].numel())), rng.normal(size=(6, 2))
    with torch.no_grad():
        part.a.copy_(torch.tensor(a))
        part.b.copy_(torch.tensor(b))
        found = part(weight).numpy()
    expected = np.empty(shape)
    for place in np.ndindex(shape):
        column = np.ravel_multi_index(place[1:], shape[1:])
        expected[place] = float(weight[place]) + 1.7 * sum(
            b[place[0], k] * a[k, column] for k in range(2)
        )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_adapted_convolution_adds_a_thin_one_and_one_of_single_pixels():
    """B (A x): the r kernels of A, then B as a 1x1 convolution, beside the frozen one."""
    net = ready(LoRA(rank=3, alpha=6.0)).network
    conv = net.get_submodule(INNER)
    correction = conv.parametrizations.weight[0]
    with torch.no_grad():
        correction.b.normal_(generator=torch.Generator().manual_seed(0))
        x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(1))
        thin = functional.conv2d(x, correction.a.view(3, 8, 3, 3), stride=2, padding=1)
        wide = functional.conv2d(thin, correction.b.view(16, 3, 1, 1))
        frozen = functional.conv2d(x, conv.parametrizations.weight.original, stride=2, padding=1)
        torch.testing.assert_close(conv(x), frozen + 6.0 / 3 * wide, rtol=1e-4, atol=1e-4)


def test_it_starts_as_the_source():
    given, net = tiny.knowledge(), ready(LoRA()).network
    for name in ("backbone.stem.0", INNER, "backbone.block3.shortcut.0"):
        assert torch.equal(net.get_submodule(name).weight, given.state[f"{name}.weight"])


def test_only_corrections_norms_and_the_head_train():
    for norms in (True, False):
        net = ready(LoRA(norms=norms)).network
        for name, parameter in net.named_parameters():
            low = name.endswith(("weight.0.a", "weight.0.b"))
            norm = isinstance(net.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d)
            expected = name.startswith("head.") or low or (norms and norm)
            assert parameter.requires_grad == expected, name


def test_what_is_learned_has_the_rank_asked_for():
    given, result = tiny.knowledge(), trained(LoRA(rank=2))
    state = result.network.state_dict()
    for name in (f"{INNER}.weight", "backbone.block3.second.weight"):
        assert rank_of(state[name] - given.state[name]) == 2


def test_a_rank_above_that_of_a_weight_is_its_own():
    part = LowRank(torch.zeros(4, 1, 3, 3), 99, 1.0, torch.Generator())
    assert part.a.shape == (4, 9) and part.b.shape == (4, 4)


def test_the_plain_network_answers_as_the_adapted_one():
    method, seen = LoRA(), tiny.items()
    prepared = ready(method)
    adapted, _ = fit(method, prepared, seen, tiny.recipe(seen, AugmentPolicy(), steps=8), seed=0)
    plain = lora.merged(adapted, tiny.network(seed=3))
    images = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(plain(images), adapted(images), rtol=1e-4, atol=1e-5)
    assert not any("parametrizations" in name for name in plain.state_dict())


def test_the_result_can_be_built_again_from_its_record():
    result = trained(LoRA(), steps=2)
    again = build(result.network.backbone_spec, spec=tiny.spec(1), classes=3, seed=9)
    again.load_state_dict(result.network.state_dict())


def test_weights_move_only_through_corrections():
    """Without norms and with corrections at rest, the backbone's parameters are the source's."""
    given = tiny.knowledge()
    result = trained(LoRA(norms=False, backbone_rate=1e-30), weight_decay=0)
    for name, parameter in result.network.named_parameters():
        if name.startswith("backbone."):
            torch.testing.assert_close(parameter, given.state[name], rtol=0, atol=1e-6)
        else:
            assert not torch.equal(parameter, tiny.network().get_parameter(name))


def test_it_says_how_many_numbers_were_trained():
    result = trained(LoRA(rank=2), steps=1)
    convolutions = [(4, 9)]
    for inputs, outputs in ((4, 8), (8, 16), (16, 32)):
        convolutions += [(outputs, 9 * inputs), (outputs, 9 * outputs), (outputs, inputs)]
    corrections = sum(2 * (rows + columns) for rows, columns in convolutions)
    norms = 2 * (4 + 3 * (8 + 16 + 32))
    head = 3 * 32 + 3
    whole = sum(rows * columns for rows, columns in convolutions) + norms + head
    assert result.notes == {
        "parameters trained": corrections + norms + head,
        "parameters": whole,
    }
    told = {t.tensor: t for t in result.transfers}[f"{INNER}.weight"]
    assert told.action == "copied"
    assert told.detail == f"corrected at rank 2: {2 * (16 + 72)} numbers trained for {16 * 72}"


def test_corrections_start_from_the_networks_seed():
    one, two = (ready(LoRA(), seed).network.state_dict() for seed in (0, 1))
    name = f"{INNER}.parametrizations.weight.0.a"
    assert not torch.equal(one[name], two[name])
    assert abs(float(one[name].std()) * 72**0.5 - 1) < 0.2
