"""Every modality keeps the contract: those in transfer/modalities/, and the toy of tests."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import toy
from transfer.core.errors import DataRefusedError, SettingsError
from transfer.modalities import lookup
from transfer.modalities.interface import (
    Contents,
    InputSpec,
    Modality,
    UnexpectedArrayError,
    Unreadable,
)
from transfer.modalities.normalisation import Normalisation
from transfer.models.fused import Part
from transfer.models.network import BackboneSpec, build

sys.path.insert(0, str(toy.PLUGINS))  # the toy's module; its entry point is that of another test
from toy_modality.modality import MODALITY as TOY


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Example:
    """What the contract cannot know of a modality: a few of its items, and what is none."""

    arrays: np.ndarray  # N items, as an .npz file holds them
    encode: Callable[[np.ndarray], bytes]  # one of them, as a file
    wrong: np.ndarray  # an array that is refused


EXAMPLES = {
    "image": Example(
        np.random.default_rng(0).integers(0, 256, (6, 9, 11), np.uint8),
        png,
        np.zeros((3, 4, 4), np.float32),
    ),
    "toy": Example(
        toy.readings(6, 0)[0],
        lambda row: ",".join(str(float(v)) for v in row).encode(),
        np.zeros((3, 4), np.int64),
    ),
}
MODALITIES = {**{name: lookup.get(name) for name in lookup.names()}, "toy": TOY}
every_modality = pytest.mark.parametrize("name", sorted(MODALITIES))


@pytest.fixture(autouse=True)
def known_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the lookup find the toy, as it would by its entry point."""
    real = lookup.get
    monkeypatch.setattr(lookup, "get", lambda name: TOY if name == "toy" else real(name))


def parts(name: str) -> tuple[Modality, Example, InputSpec]:
    modality, example = MODALITIES[name], EXAMPLES[name]
    header = example.arrays.shape, str(example.arrays.dtype)
    return modality, example, modality.specify(modality.settings(), [Contents(lambda: (), header)])


def records(name: str) -> torch.Tensor:
    modality, example, spec = parts(name)
    rows = [modality.record(modality.from_array(row), spec) for row in example.arrays]
    return torch.from_numpy(np.stack(rows))


def inputs(name: str, normal: Normalisation | None = None) -> torch.Tensor:
    modality, _, spec = parts(name)
    stored = records(name)
    normal = normal or modality.statistics([stored], spec)
    return modality.lay_out(modality.to_input(modality.scale(stored, spec), normal, spec))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_there_is_an_example_of_each() -> None:
    assert set(EXAMPLES) == set(MODALITIES)


@every_modality
def test_a_record_has_the_layout_and_is_the_same_from_a_file_as_from_an_array(name: str) -> None:
    modality, example, spec = parts(name)
    layout = modality.layout(spec)
    for row in example.arrays:
        sample = modality.decode(example.encode(row), modality.limits())
        by_file = modality.record(sample, spec)
        by_array = modality.record(modality.from_array(row), spec)
        assert by_file.shape == layout.shape and by_file.dtype == np.dtype(layout.dtype)
        assert layout.size == by_file.nbytes
        np.testing.assert_array_equal(by_file, by_array)


@every_modality
def test_what_it_says_of_an_item_are_its_columns_and_a_hash_of_its_content(name: str) -> None:
    modality, example, _ = parts(name)
    first, second = (modality.from_array(example.arrays[i]) for i in (0, 1))
    told = modality.describe(first)
    assert set(told) == {"content", "format", *modality.columns}
    assert told["format"] == "array" and modality.effort(first) >= 1
    decoded = modality.decode(example.encode(example.arrays[0]), modality.limits())
    assert modality.describe(decoded)["content"] == told["content"]
    assert modality.describe(second)["content"] != told["content"]


@every_modality
def test_what_is_no_item_is_named(name: str) -> None:
    modality, example, _ = parts(name)
    for data in (b"", b"\0\1 no item", b"x" * 2000):
        with pytest.raises(Unreadable) as error:
            modality.decode(data, modality.limits(max_bytes=1000))
        assert error.value.reason.isidentifier() and error.value.detail
    with pytest.raises(UnexpectedArrayError) as refused:
        modality.check_array(example.wrong, modality.limits())
    assert refused.value.found and refused.value.expected
    modality.check_array(example.arrays, modality.limits())
    with pytest.raises(DataRefusedError):
        modality.check_batch(np.zeros((1, 1, 1, 1, 1), np.float32))
    modality.check_batch(example.arrays)


@every_modality
def test_its_specification_survives_json_and_knows_its_modality(name: str) -> None:
    modality, _, spec = parts(name)
    assert spec.modality == name == modality.settings().modality
    again = lookup.parsed_spec(json.loads(spec.model_dump_json()))
    assert again == spec and type(again) is type(spec)
    limits = modality.limits(max_bytes=7)
    assert lookup.parsed_limits(json.loads(limits.model_dump_json()), spec) == limits


@every_modality
def test_its_settings_have_defaults_and_refuse_what_they_do_not_know(name: str) -> None:
    modality = MODALITIES[name]
    for kind in (modality.settings, modality.augmentation, modality.thresholds, modality.backbone):
        assert all(field.description for field in kind.model_fields.values()), kind
        with pytest.raises(ValueError, match="no_such_setting"):
            kind.model_validate({**kind().model_dump(), "no_such_setting": 1})
    for level in ("strong", "stronger"):
        assert isinstance(modality.strong_augmentation(level, {}), modality.augmentation)
    with pytest.raises(SettingsError, match=r"no_such_setting.*its fields are"):
        modality.strong_augmentation("strong", {"no_such_setting": 1})


@every_modality
def test_inputs_are_the_same_each_time_and_standardised(name: str) -> None:
    modality, _, spec = parts(name)
    first, second = inputs(name), inputs(name)
    assert torch.equal(first, second) and len(first) == 6
    normal = modality.statistics([records(name)[:2], records(name)[2:]], spec)
    assert normal == modality.statistics([records(name)], spec)
    assert Normalisation.model_validate_json(normal.model_dump_json()) == normal
    if normal.mean:
        channels = first.transpose(0, 1).flatten(1)
        assert channels.mean(1).abs().max() < 1e-3
        assert (channels.std(1, correction=0) - 1).abs().max() < 1e-2


@every_modality
def test_augmentation_keeps_the_shape_and_follows_its_generator(name: str) -> None:
    modality, _, spec = parts(name)
    scaled = modality.scale(records(name), spec)
    for policy in (modality.augmentation(), modality.pretrain_augmentation):
        varied = modality.augment(scaled, policy, generator(1))
        assert varied.shape == scaled.shape and varied.dtype == scaled.dtype
        assert torch.equal(varied, modality.augment(scaled, policy, generator(1)))
        if varied.is_floating_point():
            assert not torch.equal(varied, modality.augment(scaled, policy, generator(2)))
        stored = modality.unscale(varied, spec)
        assert stored.shape == records(name).shape and stored.dtype == records(name).dtype
    assert torch.equal(modality.unscale(scaled, spec), records(name))


@every_modality
def test_mixing_keeps_shapes_and_sums(name: str) -> None:
    modality, _, spec = parts(name)
    scaled, targets = modality.scale(records(name), spec), torch.eye(6)
    batch, mixed = modality.mix(scaled, targets, modality.augmentation(), generator())
    assert batch.shape == scaled.shape and mixed.shape == targets.shape
    assert torch.allclose(mixed.sum(1), torch.ones(6))


@every_modality
def test_every_backbone_gives_features_and_can_be_made_again(name: str) -> None:
    modality, _, spec = parts(name)
    known = modality.backbones()
    assert known == sorted(known) and set(modality.trainable()) <= set(known)
    settings = modality.backbone()
    assert settings.name in modality.trainable()
    assert modality.backbone_module(settings.name).split(".")[0] in ("transfer", "toy_modality")
    one, other = (build(settings.backbone_spec, spec=spec, classes=3, seed=5) for _ in range(2))
    modality.lay_out_network(one)
    with torch.no_grad():
        features = one.eval().backbone(inputs(name))
        assert features.shape == (6, one.backbone.out_features)
        assert torch.allclose(features, other.eval().backbone(inputs(name)), atol=1e-5)
        scores = one(inputs(name))
    assert scores.shape == (6, 3)
    covered = sum(p.numel() for stage in one.backbone.stages() for p in stage.parameters())
    assert covered == sum(p.numel() for p in one.backbone.parameters())
    with pytest.raises(SettingsError, match="no_such_backbone"):
        build(BackboneSpec(name="no_such_backbone"), spec=spec, classes=3, seed=0)


@every_modality
def test_its_backbones_stand_side_by_side(name: str) -> None:
    modality, _, spec = parts(name)
    backbone_spec, normal = (
        modality.backbone().backbone_spec,
        modality.statistics([records(name)], spec),
    )
    part = Part(name=backbone_spec.name, options=backbone_spec.options, normal=normal).model_dump(
        mode="json"
    )
    both = build(
        BackboneSpec(name="fused", options={"parts": [part, part]}), spec=spec, classes=2, seed=0
    )
    one = build(backbone_spec, spec=spec, classes=2, seed=0)
    assert both.backbone.normal is not None
    with torch.no_grad():
        features = both.eval().backbone(inputs(name, both.backbone.normal))
    assert features.shape == (6, 2 * one.backbone.out_features)


@every_modality
def test_an_exported_backbone_gives_the_same_features(name: str) -> None:
    modality, _, spec = parts(name)
    backbone = (
        build(modality.backbone().backbone_spec, spec=spec, classes=2, seed=0).eval().backbone
    )
    with torch.no_grad():
        before = backbone(inputs(name))
        after = modality.exportable(backbone, spec)(inputs(name))
    assert torch.allclose(before, after, atol=1e-5)


@every_modality
def test_fingerprints_tell_items_apart_and_summaries_have_names(name: str) -> None:
    modality, _, _ = parts(name)
    stored = records(name)
    prints = modality.fingerprint(stored.numpy())
    assert prints.ndim == 2 and len(prints) == 6 and prints.dtype == np.float32
    none = modality.fingerprint(stored[:0].numpy())
    assert none.shape == (0, prints.shape[1])
    apart = np.sqrt(np.square(prints[:, None] - prints[None]).mean(2))
    assert (apart[~np.eye(6, dtype=bool)] > modality.thresholds().near_duplicate_rms).all()
    summary = modality.summary(stored)
    assert summary.shape == (6, len(modality.summary_names)) and np.isfinite(summary).all()


@every_modality
def test_what_validation_expects_holds_for_good_items(name: str) -> None:
    modality, example, _ = parts(name)
    thresholds: Any = modality.thresholds()
    rows = [modality.describe(modality.from_array(row)) for row in example.arrays]
    for rule in modality.rules(thresholds):
        assert rule.column in {"format", *modality.columns} and rule.what
        values = [row[rule.column] for row in rows]
        assert rule.among is None or set(values) <= set(rule.among)
        assert rule.low is None or min(values) >= rule.low
        assert rule.high is None or max(values) <= rule.high
        fields = [*rule.setting.split(", "), rule.tolerated]
        assert set(fields) - {""} <= set(type(thresholds).model_fields)
    assert all(modality.fault(row, thresholds) is None for row in rows)


@every_modality
def test_a_request_is_unpacked_whichever_way_it_is_sent(name: str) -> None:
    import pandas as pd

    modality, example, spec = parts(name)
    array = modality.unpack(example.arrays)
    np.testing.assert_allclose(array, example.arrays)
    np.testing.assert_allclose(modality.unpack(example.arrays.tolist()), example.arrays, rtol=1e-6)
    sent = [modality.sent(example.encode(row)) for row in example.arrays]
    json.dumps(sent)
    found = modality.unpack(pd.DataFrame({modality.column: sent}))
    assert [bytes(one) for one in found] == [example.encode(row) for row in example.arrays]
    for bad in (pd.DataFrame({"other": sent}), [], [3.5, None], "no base64!", {1: 2}):
        with pytest.raises(ValueError, match=r"found|item"):
            modality.unpack(bad)
    blank = modality.unpack(modality.blank(spec).tolist())
    assert isinstance(blank, np.ndarray) and len(blank) == 1
    modality.check_batch(blank)
    record = modality.record(modality.from_array(blank[0]), spec)
    assert record.shape == modality.layout(spec).shape


@every_modality
def test_it_shows_records_in_their_cells(name: str) -> None:
    from matplotlib.figure import Figure

    modality, stored = MODALITIES[name], records(name).numpy()
    axes = Figure().add_subplot()
    modality.show(axes, [list(stored[:4]), list(stored[4:])], 4)
    assert axes.images or axes.lines or axes.texts
    low, high = sorted(axes.get_ylim())
    assert low <= 0 and high >= 1 and sorted(axes.get_xlim())[1] >= 3
    modality.show(Figure().add_subplot(), [list(stored[:3])], 3, lead=True)
    modality.show(Figure().add_subplot(), [[]], 3)


def test_a_modality_that_is_not_there_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match="modalities has no 'smell'; expected one of image"):
        lookup.code("smell")
