"""New pictures are found with and without labels, read once, and no file is lost in silence."""

import numpy as np
import pytest
from PIL import Image

from tests.transfer import tiny
from tests.transfer.deployment.monitoring.test_reference import model
from transfer.core.errors import DataRefusedError, NothingToDoError
from transfer.deployment.monitoring import new_data, reference
from transfer.modalities.interface import Unreadable


def write(folder, names, seed=0):
    images, _ = tiny.pictures(len(names), seed=seed)
    for name, image in zip(names, images, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(path)
    return images


def observe(dataset, most=1000, seed=0):
    asked = model()
    return new_data.observe(asked, new_data.new_items(dataset, asked.card), most=most, seed=seed)


def test_items_in_a_class_folder_have_its_label_and_loose_ones_have_none(tmp_path):
    write(tmp_path, ["acer/1.png", "betula/deep/2.png", "loose.png", "fagus/3.png"])
    found = observe(tmp_path)
    told = dict(zip(found.ids, found.labels.tolist(), strict=True))
    assert told == {"acer/1.png": 0, "betula/deep/2.png": 1, "fagus/3.png": -1, "loose.png": -1}
    assert found.strange == {"fagus": 1}
    assert [id_ for id_, bare in zip(found.ids, found.unlabelled, strict=True) if bare] == [
        "loose.png"
    ]
    assert found.found == 4 and found.rejects == []


def test_they_are_seen_as_the_model_sees_them_however_many_at_a_time(tmp_path, monkeypatch):
    images = write(tmp_path, [f"{i:02d}.png" for i in range(9)])
    whole = observe(tmp_path)
    np.testing.assert_allclose(
        whole.outputs.probabilities, model().predict_records(images), atol=1e-5
    )
    np.testing.assert_allclose(
        whole.outputs.features,
        reference.features(model(), tiny.torch.from_numpy(images)),
        atol=1e-5,
    )
    monkeypatch.setattr(new_data, "CHUNK", 2)
    parts = observe(tmp_path)
    assert parts.ids == whole.ids
    np.testing.assert_allclose(parts.outputs.features, whole.outputs.features, atol=1e-5)


def test_what_cannot_be_used_is_rejected_with_a_reason(tmp_path):
    write(tmp_path, ["1.png", "acer/2.png"])
    (tmp_path / "cut.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "acer/note.txt").write_text("a note")
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "link.png").symlink_to(tmp_path / "1.png")
    (tmp_path / ".DS_Store").write_text("")
    found = observe(tmp_path)
    assert found.ids == ["acer/2.png", "1.png"]
    assert {r.path: r.reason for r in found.rejects} == {
        "cut.png": "truncated",
        "empty.jpg": "empty",
        "acer/note.txt": "wrong_type",
        "words.txt": "wrong_type",
        "link.png": "symlink",
    }
    assert found.found == 7


def test_only_broken_files_leave_nothing_to_see(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    found = observe(tmp_path)
    assert found.ids == [] and len(found.rejects) == 1
    assert found.outputs.features.shape == (0, 64) and found.outputs.probabilities.shape == (0, 3)


def test_of_many_files_some_are_drawn_by_seed(tmp_path):
    write(tmp_path, [f"{i:02d}.png" for i in range(20)])
    some = observe(tmp_path, most=6)
    assert len(some.ids) == 6 and some.found == 20
    assert observe(tmp_path, most=6).ids == some.ids
    assert observe(tmp_path, most=6, seed=1).ids != some.ids


def test_a_manifest_may_lack_labels(tmp_path):
    write(tmp_path, ["a.png", "b.png", "c.png"])
    table = tmp_path / "new.csv"
    table.write_text("path,label\na.png,acer\nb.png,\nc.png,fagus\ngone.png,acer\n")
    found = observe(table)
    assert found.labels.tolist() == [0, -1, -1]
    assert found.unlabelled.tolist() == [False, True, False]
    assert found.strange == {"fagus": 1}
    assert [r.reason for r in found.rejects] == ["missing"]


def test_arrays_will_do(tmp_path):
    images, labels = tiny.pictures(7)
    names = np.array(["acer", "betula", "fagus"])
    np.savez(tmp_path / "new.npz", images=images[:, 0], labels=labels, class_names=names)
    found = observe(tmp_path / "new.npz")
    assert found.labels.tolist() == [0, 1, -1, 0, 1, -1, 0]
    assert found.strange == {"fagus": 2}


def test_an_empty_folder_and_no_dataset_are_reported(tmp_path):
    with pytest.raises(NothingToDoError, match="found no image"):
        observe(tmp_path)
    with pytest.raises(DataRefusedError, match="does not exist"):
        observe(tmp_path / "gone")


def test_a_file_that_was_deleted_since_it_was_listed_is_unreadable(tmp_path):
    write(tmp_path, ["a.png"])
    source = new_data.new_items(tmp_path, model().card)
    (tmp_path / "a.png").unlink()
    with pytest.raises(Unreadable, match="missing"):
        source.record(source.listing.entries[0])
