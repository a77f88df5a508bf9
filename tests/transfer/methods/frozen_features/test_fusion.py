"""Sources side by side: features one after another, and a gate that ends up in the head."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.transfer import tiny
from transfer.methods.building_blocks.feature_scaling import standard
from transfer.methods.frozen_features.fusion import METHOD as FUSION
from transfer.methods.frozen_features.fusion import Gate, _Gated
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.normalisation import Normalisation
from transfer.training.batches import logits
from transfer.training.method import Prepared

WIDE = BackboneSpec(name="resnet", options={"width": 6, "pool": True})
FIXED = Normalisation(mean=(0.2,), std=(0.5,))
FIRST = tiny.knowledge()
SECOND = replace(tiny.knowledge(seed=200, backbone_spec=WIDE), normal=FIXED, fixed_normal=True)


def fused(sources, steps=20, **settings):
    seen = tiny.items()
    method = FUSION(**{"views": 2, **settings})
    trainer = tiny.trainer(method, seen, tiny.recipe(seen, steps=steps), sources=sources)
    return seen, trainer, trainer.train()


def random_gate(sizes=(4, 6)):
    rng = np.random.default_rng(3)
    features = torch.tensor(rng.normal(2, 3, (40, sum(sizes)))).float()
    gate = Gate(standard(features), sizes)
    with torch.no_grad():
        gate.logits.copy_(torch.tensor([0.7, -0.4]))
    return gate, features


def test_a_gate_standardises_and_weighs_each_part():
    gate, features = random_gate()
    raw = features.double().numpy()
    shares = np.exp([0.7, -0.4]) / np.exp([0.7, -0.4]).sum()
    z = (raw - raw.mean(0)) / raw.std(0) / np.sqrt(10)
    expected = z * np.repeat(2 * shares, (4, 6))
    np.testing.assert_allclose(gate(features).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gate.shares().detach().numpy(), shares, rtol=1e-5)


def test_a_gate_starts_open_for_all():
    gate, features = Gate(random_gate()[0].standard(), (4, 6)), random_gate()[1]
    torch.testing.assert_close(gate.shares(), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(gate(features), random_gate()[0].standard().apply(features))


def test_what_remains_scores_raw_features_as_the_gated_head_did():
    sizes = (32, 48)
    rng = np.random.default_rng(0)
    features = torch.tensor(rng.gamma(2, 1, (40, 80))).float()
    gate = Gate(standard(features), sizes)
    with torch.no_grad():
        gate.logits.copy_(torch.tensor([-1.0, 1.0]))
    network = fused([FIRST, SECOND], steps=1)[2].network
    ready = Prepared(network, [], [], helpers=torch.nn.ModuleDict({"gate": gate}))
    expected = network.head(gate(features)).detach().double().numpy()
    kept = _Gated().finish(ready)
    weight, bias = (p.double().numpy() for p in kept.head.parameters())
    found = features.double().numpy() @ weight.T + bias
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_backbones_keep_every_bit_and_each_its_own_standardisation():
    _, trainer, result = fused([FIRST, SECOND])
    parts = result.network.backbone_spec.options["parts"]
    assert parts[0]["normal"] == trainer.recipe.normal.model_dump(mode="json")
    assert parts[1]["normal"] == FIXED.model_dump(mode="json")
    for i, one in enumerate((FIRST, SECOND)):
        state = result.network.backbone.parts[i].state_dict()
        own = {k.removeprefix("backbone."): t for k, t in one.state.items() if "head" not in k}
        assert tiny.same(state, own)
    assert {t.action for t in result.transfers[:-2]} == {"copied"}
    assert {t.action for t in result.transfers[-2:]} == {"reinitialised"}


def test_a_first_source_with_a_standardisation_of_its_own_does_not_impose_it():
    one = fused([FIRST, SECOND], steps=1)[2].network.backbone_spec.options["parts"]
    other = fused([SECOND, FIRST], steps=1)[2].network.backbone_spec.options["parts"]
    assert one == other[::-1]


def test_its_inputs_are_pixels_and_its_scores_fit_the_labels():
    seen, trainer, result = fused([FIRST, SECOND], steps=60)
    assert result.normal == Normalisation.none()
    scores = logits(result.network, seen.records, trainer.input_recipe(result))
    assert float(functional.cross_entropy(scores, seen.labels)) < 0.7


def test_its_notes_tell_the_gate_of_each_source():
    notes = fused([FIRST, SECOND])[2].notes
    assert list(notes) == ["gate of source 1 (trees)", "gate of source 2 (trees)"]
    assert sum(notes.values()) == pytest.approx(1, abs=1e-6)


def test_the_gate_turns_to_the_source_that_tells_the_classes_apart():
    """The first backbone knows nothing: its last layer is off, all its features are zero."""
    state = dict(FIRST.state)
    for name in ("backbone.block3.second_norm.", "backbone.block3.shortcut.1."):
        for kind in ("weight", "bias"):
            state[name + kind] = torch.zeros_like(state[name + kind])
    blind = replace(FIRST, state=state)
    notes = fused([blind, SECOND], steps=150)[2].notes
    assert notes["gate of source 2 (trees)"] > 0.51
    assert fused([SECOND, blind], steps=150)[2].notes["gate of source 1 (trees)"] > 0.51


def test_one_source_makes_a_linear_probe():
    result = fused([SECOND])[2]
    assert result.notes == {"gate of source 1 (trees)": 1.0}
    assert result.network.backbone.out_features == 48
