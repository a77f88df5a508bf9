"""The transfer map says of every tensor where its values come from, and it is true."""

from dataclasses import replace

import pytest
import torch

from tests.transfer import tiny
from transfer.modalities.backbone import Body
from transfer.models.parameter_transfer import transplant, untouched

WIDE = Body(name="resnet", options={"width": 8, "pool": True})


def moved(*classes, **source):
    """A fresh network's tensors after and before a transplant, the source, and the map."""
    net = tiny.network()
    fresh, given = tiny.state(net), tiny.knowledge(*classes, **source)
    rows = {row.tensor: row for row in transplant(net, given, tiny.CLASSES)}
    return net.state_dict(), fresh, given, rows


@pytest.mark.parametrize("source", [{}, {"channels": 3}, {"body": WIDE}])
def test_every_tensor_is_listed_once_with_its_shapes(source):
    now, _, given, rows = moved(**source)
    assert list(rows) == list(now)
    for name, row in rows.items():
        assert row.shape == list(now[name].shape)
        assert row.source_shape == list(given.state[name].shape)


def test_the_body_is_copied_with_its_statistics():
    now, _, given, rows = moved()
    body = [name for name in now if name.startswith("backbone.")]
    assert {rows[name].action for name in body} == {"copied"}
    assert all(torch.equal(now[name], given.state[name]) for name in body)
    assert any(name.endswith("running_var") for name in body)


def test_rows_of_shared_classes_are_copied_and_the_others_stay_fresh():
    now, fresh, given, rows = moved(("corylus", "fagus", "acer", "salix"))
    for name in ("head.weight", "head.bias"):
        assert torch.equal(now[name][0], given.state[name][2])
        assert torch.equal(now[name][1], fresh[name][1])
        assert torch.equal(now[name][2], given.state[name][0])
        assert rows[name].action == "sliced"
        assert rows[name].detail == "rows of 2 shared classes of 3"


def test_equal_classes_in_another_order_are_all_copied_by_name():
    source = ("corylus", "acer", "betula")
    now, _, given, rows = moved(source)
    assert torch.equal(now["head.weight"], given.state["head.weight"][[1, 2, 0]])
    assert rows["head.weight"].action == "sliced"
    now, _, given, rows = moved(tiny.CLASSES)
    assert torch.equal(now["head.weight"], given.state["head.weight"])
    assert rows["head.weight"].action == rows["head.bias"].action == "copied"


def test_a_head_without_shared_classes_stays_fresh():
    now, fresh, _, rows = moved(("fagus", "salix", "tilia"))
    for name in ("head.weight", "head.bias"):
        assert torch.equal(now[name], fresh[name])
        assert rows[name].action == "reinitialised"


@pytest.mark.parametrize(("source", "target"), [(3, 1), (1, 3)])
def test_a_grey_picture_gets_the_same_response_after_a_change_of_channels(source, target):
    net, given = tiny.network(channels=target), tiny.knowledge(channels=source)
    teacher = tiny.network(2, source)
    teacher.load_state_dict(given.state)
    rows = {row.tensor: row for row in transplant(net, given, tiny.CLASSES)}
    assert rows["backbone.stem.0.weight"].action == "sliced"
    assert rows["backbone.stem.0.weight"].detail == f"input channels {source} to {target}"
    grey = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        was = teacher.eval().backbone(grey.expand(-1, source, -1, -1))
        now = net.eval().backbone(grey.expand(-1, target, -1, -1))
    torch.testing.assert_close(now, was, rtol=1e-4, atol=1e-5)
    assert was.std() > 0.01


def test_a_body_of_another_width_gives_nothing():
    net = tiny.network()
    fresh = tiny.state(net)
    given = tiny.knowledge(body=WIDE)
    rows = transplant(net, given, tiny.CLASSES)
    wide = [row for row in rows if row.shape and not row.tensor.startswith("head.bias")]
    assert {row.action for row in wide} == {"reinitialised"}
    assert all(torch.equal(net.state_dict()[row.tensor], fresh[row.tensor]) for row in wide)


def test_what_the_source_lacks_stays_fresh():
    net = tiny.network()
    fresh, whole = tiny.state(net), tiny.knowledge()
    part = {k: v for k, v in whole.state.items() if "block3" not in k}
    rows = transplant(net, replace(whole, state=part), tiny.CLASSES)
    for row in rows:
        if "block3" in row.tensor:
            assert (row.action, row.source_shape) == ("reinitialised", None)
            assert row.detail == "not in the source"
            assert torch.equal(net.state_dict()[row.tensor], fresh[row.tensor])


def test_the_source_is_left_as_it_was():
    given = tiny.knowledge()
    before = {k: v.clone() for k, v in given.state.items()}
    net = tiny.network()
    transplant(net, given, tiny.CLASSES)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert tiny.same(before, given.state)


def test_the_map_of_training_from_scratch_is_all_fresh():
    net = tiny.network()
    rows = untouched(net)
    assert [row.tensor for row in rows] == list(net.state_dict())
    assert {row.action for row in rows} == {"reinitialised"}
