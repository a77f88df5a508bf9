"""Several backbones side by side give what each gives alone."""

import pytest
import torch

from tests.transfer import tiny
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.normalisation import Normalisation
from transfer.models.fused import Part
from transfer.models.network import build
from transfer.models.parameter_transfer import Knowledge

OTHER = BackboneSpec(name="resnet", options={"width": 6, "pool": False})
NORMALS = (tiny.NORMAL, Normalisation(mean=(0.1,), std=(0.7,)))


def fused(normals=NORMALS):
    parts = [
        Part(name=backbone_spec.name, options=backbone_spec.options, normal=normal).model_dump(
            mode="json"
        )
        for backbone_spec, normal in zip((tiny.BODY, OTHER), normals, strict=True)
    ]
    return BackboneSpec(name="fused", options={"parts": parts})


def test_features_are_those_of_each_part_on_its_own_standardisation_one_after_another():
    network = build(fused(), spec=tiny.spec(1), classes=2, seed=0).eval()
    alone = [
        build(backbone_spec, spec=tiny.spec(1), classes=2, seed=7).eval()
        for backbone_spec in (tiny.BODY, OTHER)
    ]
    for i, one in enumerate(alone):
        network.backbone.parts[i].load_state_dict(one.backbone.state_dict())
    pixels = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = network.backbone(pixels).numpy()
        parts = [
            one.backbone((pixels - normal.mean[0]) / normal.std[0]).numpy()
            for one, normal in zip(alone, NORMALS, strict=True)
        ]
    assert found.shape == (3, 32 + 48)
    assert abs(found[:, :32] - parts[0]).max() < 1e-5
    assert abs(found[:, 32:] - parts[1]).max() < 1e-5


def test_its_own_inputs_are_not_standardised():
    backbone_spec = build(fused(), spec=tiny.spec(), classes=2, seed=0).backbone
    given = torch.rand(2, 1, 5, 5)
    assert backbone_spec.normal is not None and torch.equal(
        backbone_spec.normal.apply(given), given
    )


def test_its_record_is_plain_json():
    backbone_spec = fused()
    assert BackboneSpec.model_validate_json(backbone_spec.model_dump_json()) == backbone_spec


def test_a_part_without_its_standardisation_is_refused():
    with pytest.raises(ValueError, match="normal"):
        build(
            BackboneSpec(name="fused", options={"parts": [tiny.BODY.model_dump()]}),
            spec=tiny.spec(),
            classes=2,
            seed=0,
        )


def test_a_fused_backbone_may_be_part_of_another():
    part = Part(name="fused", options=fused().options, normal=Normalisation.none()).model_dump(
        mode="json"
    )
    network = build(
        BackboneSpec(name="fused", options={"parts": [part]}), spec=tiny.spec(1), classes=2, seed=0
    )
    assert network.backbone.out_features == 80
    assert isinstance(tiny.knowledge(backbone_spec=network.backbone_spec), Knowledge)
