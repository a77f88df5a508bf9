"""Raw items by id, and the answer of a model that knows other classes."""

import numpy as np
import pytest
from PIL import Image

from tests.transfer.models.test_predictor import pixels, write
from transfer.core.errors import DataRefusedError
from transfer.data import scan
from transfer.deployment import raw_items
from transfer.modalities.image.spec import ImageLimits, ImageSpec
from transfer.models import predictor

NAMES = ("acer", "betula", "corylus")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The same six pictures as class folders, as a CSV manifest and as an .npz file."""
    root, images = tmp_path_factory.mktemp("raw"), pixels(1, 6, 14)
    lines = ["path,label"]
    for i, image in enumerate(images):
        path = root / "folder" / NAMES[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        lines.append(f"folder/{NAMES[i % 3]}/{i}.png,{NAMES[i % 3]}")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    labels = np.arange(6) % 3
    np.savez(root / "items.npz", images=images, labels=labels, class_names=np.array(NAMES))
    return images, [root / "folder", root / "list.csv", root / "items.npz"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return predictor.load(write(tmp_path_factory.mktemp("models") / "model"))


def ids(dataset, out):
    out.mkdir()
    spec = ImageSpec(size=12, channels=1)
    found = scan.scan(dataset, out, name="raw", spec=spec, limits=ImageLimits())
    return found.items["id"].tolist()


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["folder", "csv", "npz"])
def test_the_ids_of_a_scan_lead_back_to_the_raw_items(places, model, kind, tmp_path):
    images, datasets = places
    dataset = datasets[kind]
    names = ids(dataset, tmp_path / "scan")
    order = [int(name.rsplit("#")[-1].rsplit("/")[-1].removesuffix(".png")) for name in names]
    assert sorted(order) == list(range(6))
    found = raw_items.predict(model, dataset, names[::-1], NAMES)
    assert np.array_equal(found, model.predict_arrays(images[order[::-1]]))
    assert raw_items.is_arrays(dataset) == (kind == 2)


def test_columns_follow_the_classes_of_today(places, model):
    images, (*_, dataset) = places
    names = [f"items.npz#{i:06d}" for i in (4, 0)]
    found = raw_items.predict(model, dataset, names, ("corylus", "ulmus", "acer"))
    known = model.predict_arrays(images[[4, 0]])
    assert np.array_equal(found[:, 1], np.zeros(2))
    kept = known[:, [2, 0]] / known[:, [2, 0]].sum(1, keepdims=True)
    assert found[:, [0, 2]] == pytest.approx(kept)


def test_a_model_that_knows_none_of_the_classes_leaves_them_level(places, model):
    found = raw_items.predict(model, places[1][2], ["items.npz#000000"], ("ulmus", "tilia"))
    assert found.tolist() == [[0.5, 0.5]]


def test_no_items_no_rows(places, model):
    for dataset in places[1]:
        assert raw_items.predict(model, dataset, [], NAMES).shape == (0, 3)


def test_an_item_that_is_gone_is_named(places, model):
    folder = places[1][0]
    with pytest.raises(DataRefusedError, match=r"acer/99\.png cannot be read"):
        raw_items.predict(model, folder, ["acer/99.png"], NAMES)
