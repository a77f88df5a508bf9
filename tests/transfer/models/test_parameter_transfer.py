"""The transfer map lists where the values of every tensor come from."""

from dataclasses import replace

import pytest
import torch

from tests.transfer import tiny
from transfer.modalities.backbone import BackboneSpec
from transfer.models.parameter_transfer import scratch_transfer_map, transplant

WIDE = BackboneSpec(name="resnet", options={"width": 8, "pool": True})


def transplanted(*classes, **source):
    """Tensors of a new network after and before a transplant, the source, and the map."""
    network = tiny.network()
    initial, knowledge = tiny.state(network), tiny.knowledge(*classes, **source)
    rows = {row.tensor: row for row in transplant(network, knowledge, tiny.CLASSES)}
    return network.state_dict(), initial, knowledge, rows


@pytest.mark.parametrize("source", [{}, {"channels": 3}, {"backbone_spec": WIDE}])
def test_every_tensor_is_listed_once_with_its_shapes(source):
    now, _, knowledge, rows = transplanted(**source)
    assert list(rows) == list(now)
    for name, row in rows.items():
        assert row.shape == list(now[name].shape)
        assert row.source_shape == list(knowledge.state[name].shape)


def test_the_backbone_is_copied_with_its_statistics():
    now, _, knowledge, rows = transplanted()
    backbone_spec = [name for name in now if name.startswith("backbone.")]
    assert {rows[name].action for name in backbone_spec} == {"copied"}
    assert all(torch.equal(now[name], knowledge.state[name]) for name in backbone_spec)
    assert any(name.endswith("running_var") for name in backbone_spec)


def test_rows_of_shared_classes_are_copied_and_the_others_stay_initial():
    now, initial, knowledge, rows = transplanted(("corylus", "fagus", "acer", "salix"))
    for name in ("head.weight", "head.bias"):
        assert torch.equal(now[name][0], knowledge.state[name][2])
        assert torch.equal(now[name][1], initial[name][1])
        assert torch.equal(now[name][2], knowledge.state[name][0])
        assert rows[name].action == "sliced"
        assert rows[name].detail == "rows of 2 shared classes of 3"


def test_equal_classes_in_another_order_are_all_copied_by_name():
    source = ("corylus", "acer", "betula")
    now, _, knowledge, rows = transplanted(source)
    assert torch.equal(now["head.weight"], knowledge.state["head.weight"][[1, 2, 0]])
    assert rows["head.weight"].action == "sliced"
    now, _, knowledge, rows = transplanted(tiny.CLASSES)
    assert torch.equal(now["head.weight"], knowledge.state["head.weight"])
    assert rows["head.weight"].action == rows["head.bias"].action == "copied"


def test_a_head_without_shared_classes_stays_initial():
    now, initial, _, rows = transplanted(("fagus", "salix", "tilia"))
    for name in ("head.weight", "head.bias"):
        assert torch.equal(now[name], initial[name])
        assert rows[name].action == "reinitialised"


@pytest.mark.parametrize(("source", "target"), [(3, 1), (1, 3)])
def test_a_grey_image_gets_the_same_response_after_a_change_of_channels(source, target):
    network, knowledge = tiny.network(channels=target), tiny.knowledge(channels=source)
    teacher = tiny.network(2, source)
    teacher.load_state_dict(knowledge.state)
    rows = {row.tensor: row for row in transplant(network, knowledge, tiny.CLASSES)}
    assert rows["backbone.stem.0.weight"].action == "sliced"
    assert rows["backbone.stem.0.weight"].detail == f"input channels {source} to {target}"
    grey = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        was = teacher.eval().backbone(grey.expand(-1, source, -1, -1))
        now = network.eval().backbone(grey.expand(-1, target, -1, -1))
    torch.testing.assert_close(now, was, rtol=1e-4, atol=1e-5)
    assert was.std() > 0.01


def test_a_backbone_of_another_width_copies_nothing():
    network = tiny.network()
    initial = tiny.state(network)
    knowledge = tiny.knowledge(backbone_spec=WIDE)
    rows = transplant(network, knowledge, tiny.CLASSES)
    wide = [row for row in rows if row.shape and not row.tensor.startswith("head.bias")]
    assert {row.action for row in wide} == {"reinitialised"}
    assert all(torch.equal(network.state_dict()[row.tensor], initial[row.tensor]) for row in wide)


def test_tensors_missing_in_the_source_stay_initial():
    network = tiny.network()
    initial, whole = tiny.state(network), tiny.knowledge()
    part = {k: v for k, v in whole.state.items() if "block3" not in k}
    rows = transplant(network, replace(whole, state=part), tiny.CLASSES)
    for row in rows:
        if "block3" in row.tensor:
            assert (row.action, row.source_shape) == ("reinitialised", None)
            assert row.detail == "not in the source"
            assert torch.equal(network.state_dict()[row.tensor], initial[row.tensor])


def test_the_source_is_not_changed():
    knowledge = tiny.knowledge()
    before = {k: v.clone() for k, v in knowledge.state.items()}
    network = tiny.network()
    transplant(network, knowledge, tiny.CLASSES)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert tiny.same(before, knowledge.state)


def test_the_map_of_training_from_scratch_has_only_reinitialised_tensors():
    network = tiny.network()
    rows = scratch_transfer_map(network)
    assert [row.tensor for row in rows] == list(network.state_dict())
    assert {row.action for row in rows} == {"reinitialised"}
