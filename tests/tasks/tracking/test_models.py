import json
import shutil
import subprocess
import sys
from zipfile import ZipFile

import numpy as np
import pytest

from tasks.registry import versions
from tasks.tracking import connection, load_back_check, models, runs
from tasks.tracking import files as model_files
from transfer.core.errors import ModelFileError
from transfer.models import predictor

BARE = """
import sys
sys.meta_path = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")
                 and "editable" not in getattr(f, "__name__", "").lower()]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""
ABSENT = ("tasks", "flows", "prefect", "dvc", "great_expectations", "typer", "rich", "filelock")


@pytest.fixture
def run(project):
    return runs.log_run(runs.RunRecord("key", "run", {}, {}, {}, [], [], {}))


def numbers():
    return [int(v.version) for v in connection.client().search_model_versions("name = 'plants'")]


def logged():
    models = connection.client().search_logged_models(["1"])
    return [str(model.status) for model in models]


def test_a_version_has_its_run_tags_and_files(run, model):
    assert models.register("plants", model, "m", run, {"data.plants": "abc"}) == 1
    version = connection.client().get_model_version("plants", "1")
    assert version.run_id == run
    assert version.tags == {"data.plants": "abc", "crosstrain.key": "m"}
    folder = model_files.model_folder("plants", 1)
    for name in ("card.json", "weights.safetensors"):
        assert (folder / name).read_bytes() == (model / name).read_bytes()
    outputs = connection.client().get_run(run).outputs.model_outputs
    assert [o.model_id for o in outputs] == [
        m.model_id for m in connection.client().search_logged_models(["1"])
    ]


def test_a_version_holds_no_pickle_and_no_folder_of_this_machine(run, model, project):
    models.register("plants", model, "m", run, {})
    folder = model_files.model_folder("plants", 1).parents[1]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"MLmodel", "serve_model.py", "library.zip"} <= {path.name for path in files}
    with ZipFile(folder / "artifacts/library.zip") as library:
        texts = {name: library.read(name).decode() for name in library.namelist()}
    assert {"transfer/__init__.py", "transfer/models/predictor.py"} <= texts.keys()
    assert all(name.endswith(".py") for name in texts)
    texts |= {
        str(path): path.read_text() for path in files if path.suffix not in {".zip", ".safetensors"}
    }
    assert not {path.suffix for path in files} & {".pkl", ".pickle", ".pyc", ".pt", ".pth"}
    here = [str(project.parent), str(model.parent), sys.prefix]
    for name, content in texts.items():
        assert not any(place in content for place in here), name
    required = (folder / "requirements.txt").read_text().split()
    assert len(required) == 7
    assert all("==" in line and "+" not in line for line in required)


def identity(version):
    folder = model_files.model_folder("plants", version)
    return json.loads((folder.parent / "registered.json").read_text())


def test_a_version_knows_its_number(run, model, make_model):
    models.register("plants", model, "m", run, {})
    models.register("plants", make_model(2), "other", run, {})
    assert identity(1) == {"model": "plants", "version": 1}
    assert identity(2) == {"model": "plants", "version": 2}
    tags = [
        logged_model.tags["mlflow.modelVersions"]
        for logged_model in connection.client().search_logged_models(["1"])
    ]
    assert sorted(json.loads(tag)[0]["version"] for tag in tags) == [1, 2]


def test_the_same_model_is_one_version(run, model, make_model):
    assert models.register("plants", model, "m", run, {}) == 1
    assert models.register("plants", model, "m", run, {"again": "yes"}) == 1
    assert models.register("plants", make_model(2), "other", run, {}) == 2
    assert models.register("animals", model, "m", run, {}) == 1
    assert numbers() == [2, 1]


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_version_that_lost_its_files_is_not_used_again(run, model, harm):
    models.register("plants", model, "m", run, {})
    folder = model_files.model_folder("plants", 1)
    if harm == "gone":
        shutil.rmtree(folder.parents[1])
        with pytest.raises(ModelFileError, match="version 1 of plants has no readable files"):
            model_files.model_folder("plants", 1)
        with pytest.raises(ModelFileError, match="version 1 of plants has no readable files"):
            load_back_check.load_back("plants", 1, files=[])
    else:
        weights = folder / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert models.register("plants", model, "m", run, {}) == 2
    assert models.register("plants", model, "m", run, {}) == 2


def test_unknown_names_are_refused(run, tmp_path):
    with pytest.raises(ModelFileError, match="version 3 of plants has no readable files"):
        model_files.model_folder("plants", 3)
    with pytest.raises(ModelFileError, match="is not a folder"):
        models.register("plants", tmp_path / "nowhere", "m", run, {})
    assert numbers() == []


def test_a_model_killed_at_any_step_becomes_one_version_of_one_logged_model(
    run, project, model, deaths, monkeypatch
):
    for copy in deaths(project, "register", str(model), "m", run):
        monkeypatch.chdir(copy)
        assert models.register("plants", model, "m", run, {}) == 1
        assert numbers() == [1]
        assert logged() == ["READY"]
        assert (model_files.model_folder("plants", 1) / "card.json").is_file()
        assert identity(1) == {"model": "plants", "version": 1}


@pytest.fixture
def moved(three_versions, tmp_path, monkeypatch):
    """A project that was moved after version 1 became champion."""
    versions.promote("plants", 1, reasons=["first"], blessing={})
    place = tmp_path / "moved" / "elsewhere"
    place.parent.mkdir()
    shutil.move(three_versions, place)
    monkeypatch.chdir(place)
    assert model_files.model_folder("plants", 1).is_relative_to(place)
    return place


def test_a_moved_champion_predicts_with_only_its_own_files(
    moved, model, images, tmp_path, monkeypatch
):
    (tmp_path / "sitecustomize.py").write_text(BARE.format(absent=ABSENT))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    without = [sys.executable, "-P", "-c", "import transfer"]
    assert subprocess.run(without, capture_output=True, check=False).returncode == 1
    champion = versions.champion("plants")
    files, pixels = images
    answers = load_back_check.load_back("plants", champion.version, files, pixels)
    expected = predictor.load(model).predict_arrays(pixels)
    assert answers.files.shape == (5, 3)
    np.testing.assert_allclose(answers.arrays, expected, atol=1e-6)
    np.testing.assert_array_equal(answers.files, answers.arrays)


def test_a_moved_champion_loads_by_its_alias(moved, model, images, monkeypatch):
    from mlflow import pyfunc

    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    loaded = pyfunc.load_model("models:/plants@champion")
    expected = predictor.load(model).predict_arrays(images[1])
    answers = loaded.predict(images[1])
    probabilities = [list(answer["probabilities"].values()) for answer in answers]
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert {(answer["model"], answer["version"]) for answer in answers} == {("plants", 1)}


def test_a_version_that_does_not_load_is_named(three_versions, images):
    weights = model_files.model_folder("plants", 1) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    message = (
        "version 1 of plants does not load and predict in a separate process: .*ModelFileError"
    )
    with pytest.raises(ModelFileError, match=message):
        load_back_check.load_back("plants", 1, arrays=images[1])


def test_nothing_is_printed(project, model, capfd, recwarn):
    run = runs.log_run(runs.RunRecord("key", "run", {"x": "y" * 9000}, {}, {}, [], [], {}))
    models.register("plants", model, "m", run, {})
    versions.promote("plants", 1, reasons=["first"], blessing={})
    versions.champion("plants")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
