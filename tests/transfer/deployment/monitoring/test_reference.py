"""The reference is what the model makes of the test split, and comes back as it was written."""

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.core.errors import ModelFileError, NothingToDoError
from transfer.data.items import TestItems
from transfer.deployment.monitoring import reference
from transfer.modalities.image import tensors
from transfer.modalities.image.spec import ImageLimits, ImageSpec
from transfer.modalities.normalisation import Normalisation
from transfer.models.predictor import Card, Member, Predictor


def model(members=2, networks=2):
    """Members with random weights, the second of which sees standardised pictures otherwise."""
    card = Card(
        target="hedge",
        class_names=tiny.CLASSES,
        spec=ImageSpec(size=tiny.SIDE, channels=1),
        limits=ImageLimits(),
        members=tuple(
            Member(
                arm=f"scratch/{m}",
                weight=1 / members,
                temperature=1.0,
                networks=networks,
                backbone_spec=tiny.BODY,
                normal=Normalisation(mean=(0.2 * m,), std=(0.3,)),
            )
            for m in range(members)
        ),
    )
    nets = [[tiny.network(seed=10 * m + n).eval() for n in range(networks)] for m in range(members)]
    return Predictor(card, tuple(map(tuple, nets)))


def items(n=30, seed=0):
    images, labels = tiny.pictures(n, seed=seed)
    ids = np.array([f"{i % 3}/{i:03d}.png" for i in range(n)])
    return TestItems(torch.from_numpy(images), torch.from_numpy(labels), ids)


def make(n=30, **told):
    return reference.make(model(), items(n), **{"usable": 90, "rejected": 3, "right": 20, **told})


def test_features_are_those_of_the_first_network_of_each_member():
    asked, images = model(), items().records
    found = reference.features(asked, images)
    with torch.no_grad():
        parts = [
            nets[0].backbone(member.normal.apply(images.float() / 255)).numpy()
            for nets, member in zip(asked.networks, asked.card.members, strict=True)
        ]
    assert found.shape == (30, 64)
    np.testing.assert_allclose(found, np.concatenate(parts, 1), atol=1e-5)


def test_wide_features_are_thinned_out(monkeypatch):
    whole = reference.features(model(), items().records)
    monkeypatch.setattr(reference, "WIDTH", 25)
    np.testing.assert_array_equal(reference.features(model(), items().records), whole[:, ::3])


def test_light_is_mean_deviation_and_steps_of_the_pixels():
    images = items(4).records
    images[0] = 51
    found, pixels = tensors.light(images), images.numpy() / 255
    assert found[0] == pytest.approx([0.2, 0, 0])
    for told, one in zip(found, pixels[:, 0], strict=True):
        down, right = np.abs(one[1:] - one[:-1]).mean(), np.abs(one[:, 1:] - one[:, :-1]).mean()
        assert told == pytest.approx([one.mean(), one.std(), (down + right) / 2], abs=1e-6)


def test_it_holds_some_test_items_drawn_by_their_ids(monkeypatch):
    monkeypatch.setattr(reference, "ITEMS", 10)
    found, all_items = make(), items()
    rows = reference.drawn(all_items.ids.tolist())
    assert len(rows) == 10 and sorted(rows) == rows.tolist()
    np.testing.assert_allclose(
        found.outputs.features, reference.features(model(), all_items.records[rows]), atol=1e-6
    )
    more = [*all_items.ids.tolist(), "new.png"]
    assert len(set(reference.drawn(more)) - set(rows)) <= 1
    assert (found.tested, found.right, found.usable, found.rejected) == (30, 20, 90, 3)


def test_it_comes_back_as_it_was_written(tmp_path):
    made = make()
    reference.save(made, tmp_path)
    found = reference.load(tmp_path)
    for name, array in vars(made.outputs).items():
        np.testing.assert_array_equal(getattr(found.outputs, name), array)
    assert (found.tested, found.right, found.usable, found.rejected) == (30, 20, 90, 3)
    first = (tmp_path / reference.FILE).read_bytes()
    reference.save(make(), tmp_path)
    assert (tmp_path / reference.FILE).read_bytes() == first


def test_a_model_without_one_says_what_to_do(tmp_path):
    with pytest.raises(NothingToDoError, match="crosstrain retrain"):
        reference.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "pickle", "lacking", "uneven", "empty"])
def test_a_damaged_one_is_refused(tmp_path, damage):
    reference.save(make(), tmp_path)
    file = tmp_path / reference.FILE
    with np.load(file) as stored:
        arrays = dict(stored)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:200])
    elif damage == "pickle":
        np.savez(file, **{**arrays, "summary": np.array([{"a": 1}], dtype=object)})
    elif damage == "lacking":
        np.savez(file, **{name: a for name, a in arrays.items() if name != "summary"})
    elif damage == "uneven":
        np.savez(file, **{**arrays, "summary": arrays["summary"][:5]})
    else:
        np.savez(file, **{n: a if n == "counts" else a[:0] for n, a in arrays.items()})
    with pytest.raises(ModelFileError, match="reference"):
        reference.load(tmp_path)


def test_only_what_says_something_of_the_file_counts_as_broken():
    assert reference.broken(["truncated", "hidden", "wrong_type", "no_label", "permission"]) == 3
