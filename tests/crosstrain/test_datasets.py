"""Data in memory becomes a dataset that the chain reads, under a name that is its content's."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crosstrain import datasets
from transfer.core.errors import DataRefusedError, SettingsError

ITEMS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def located(data, name="plants", before=Path("/somewhere")):
    return datasets.located(data, name, "images", before)


def test_a_path_refers_to_the_caller_s_folder():
    assert located("data/plants", "") == Path("/somewhere/data/plants")
    assert located(Path("/elsewhere/plants.csv"), "") == Path("/elsewhere/plants.csv")


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["rose", "oak"], ["oak", "rose"], [1, 0]),
        (np.array([7, 3]), ["3", "7"], [1, 0]),
        (np.array([True, False]), ["False", "True"], [1, 0]),
        (np.array(["b", "a"], dtype=object), ["a", "b"], [1, 0]),
    ],
)
def test_arrays_and_labels_become_an_npz_of_that_name(labels, names, numbers):
    file = located((ITEMS, labels))
    assert file.name == "plants.npz" and file.is_absolute()
    with np.load(file) as stored:
        assert stored["class_names"].tolist() == names
        assert stored["labels"].tolist() == numbers
        np.testing.assert_array_equal(stored["images"], ITEMS)


def test_the_same_arrays_are_the_same_file_and_others_another():
    first = located((ITEMS, ["a", "b"]))
    written = first.stat().st_mtime_ns
    assert located((ITEMS, ["a", "b"])) == first and first.stat().st_mtime_ns == written
    assert located((ITEMS + 1, ["a", "b"])) != first


def test_a_mapping_is_written_as_it_is():
    arrays = {"images": ITEMS, "labels": [0, 1], "class_names": ["a", "b"], "groups": ["x", "y"]}
    with np.load(located(arrays)) as stored:
        assert stored["groups"].tolist() == ["x", "y"]


def test_a_table_becomes_a_manifest_with_its_files_beside_it(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.PNG").write_bytes(b"a")
    (tmp_path / "photos/b.png").write_bytes(b"b")
    table = pd.DataFrame(
        {"path": ["photos/a.PNG", tmp_path / "photos/b.png"], "label": ["x", "y"], "group": [1, 1]}
    )
    manifest = located(table, before=tmp_path)
    read = pd.read_csv(manifest)
    assert manifest.name == "plants.csv" and read.columns.tolist() == ["path", "label", "group"]
    assert [(manifest.parent / path).read_bytes() for path in read["path"]] == [b"a", b"b"]
    assert located(table, before=tmp_path) == manifest
    (tmp_path / "photos/b.png").write_bytes(b"changed")
    assert located(table, before=tmp_path) != manifest


@pytest.mark.parametrize("labels", [[1.5, 2.5], [["a"], ["b"]], []])
def test_labels_that_name_no_class_are_refused(labels):
    with pytest.raises(DataRefusedError, match="expected strings or integers"):
        located((ITEMS, labels))


def test_what_cannot_be_a_dataset_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="without a name"):
        located((ITEMS, ["a", "b"]), name="")
    with pytest.raises(DataRefusedError, match="found a int as data"):
        located(3)
    with pytest.raises(DataRefusedError, match="expected path, label"):
        located(pd.DataFrame({"file": ["a"]}))
    with pytest.raises(DataRefusedError, match=r"gone\.png cannot be read"):
        located(pd.DataFrame({"path": ["gone.png"], "label": ["x"]}), before=tmp_path)
