"""Files of versions in S3."""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from mlflow.store.artifact import s3_artifact_repo

from tasks.tracking import connection, files, load_back_check, models, runs
from tests import s3
from transfer.core.errors import CrosstrainError, ModelFileError, SettingsError
from transfer.models import predictor


@pytest.fixture
def bucket(project, objects, tmp_path, monkeypatch):
    """A project whose store is another database, and whose files are in S3."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    for name, value in objects.items():
        monkeypatch.setenv(name, value)
    address = s3.make_bucket(objects, tmp_path.name.replace("_", "-").strip("-"))
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", f"{address}/team/")
    return address


@pytest.fixture
def registered(bucket, model):
    run = runs.log_run(runs.RunRecord("key", "run", {}, {}, {}, [], [], {"": model}))
    assert models.register("plants", model, "m", run, {}) == 1
    return bucket


def delete(bucket, suffix):
    import boto3

    resource = boto3.resource("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    for item in resource.Bucket(bucket.removeprefix("s3://")).objects.all():
        if item.key.endswith(suffix):
            item.delete()


@pytest.mark.slow
def test_a_version_in_s3_is_fetched_once_and_predicts(registered, model, images, monkeypatch):
    store = connection.client()
    experiment = store.get_experiment_by_name("crosstrain")
    assert experiment.artifact_location == f"{registered}/team/crosstrain"
    folder = files.model_folder("plants", 1)
    assert folder.is_relative_to("build/model")
    for name in ("card.json", "weights.safetensors"):
        assert (folder / name).read_bytes() == (model / name).read_bytes()
    expected = predictor.load(model).predict_arrays(images[1])
    answers = load_back_check.load_back("plants", 1, arrays=images[1])
    np.testing.assert_allclose(answers.arrays, expected, atol=1e-6)
    delete(registered, ".safetensors")
    assert files.model_folder("plants", 1) == folder
    with pytest.raises(ModelFileError):
        load_back_check.load_back("plants", 1, arrays=images[1])
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


@pytest.mark.slow
def test_a_changed_copy_is_fetched_again(registered, model):
    folder = files.model_folder("plants", 1)
    (folder / "card.json").write_text("{}")
    assert (files.model_folder("plants", 1) / "card.json").read_bytes() == (
        model / "card.json"
    ).read_bytes()


@pytest.mark.slow
def test_missing_files_in_the_bucket_are_reported_and_registered_again(registered, model):
    delete(registered, "card.json")
    with pytest.raises(ModelFileError, match="restore its files in the store from a copy"):
        files.model_folder("plants", 1)
    run = connection.client().get_model_version("plants", "1").run_id
    assert models.register("plants", model, "m", run, {}) == 2
    assert models.register("plants", model, "m", run, {}) == 2


@pytest.fixture
def notes(project):
    file = Path("notes.txt")
    file.write_text("n")
    return runs.RunRecord("key", "run", {}, {}, {}, [], [], {"": file})


def test_a_missing_driver_is_reported_with_its_extra(bucket, notes, monkeypatch):
    s3_artifact_repo._cached_get_s3_client.cache_clear()
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SettingsError, match=r"boto3 .* pip install 'crosstrain\[s3\]'"):
        runs.log_run(notes)
    with pytest.raises(SettingsError, match=r"boto3 .* pip install 'crosstrain\[s3\]'"):
        connection.check()


def test_a_missing_bucket_is_reported(bucket, notes, monkeypatch):
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://nowhere/x")
    with pytest.raises(CrosstrainError, match=r"could not log run run: .*NoSuchBucket"):
        runs.log_run(notes)
    with pytest.raises(CrosstrainError, match=r"reach s3://nowhere/x/.*bucket does not exist"):
        connection.check()


def test_an_existing_bucket_passes_the_check(bucket):
    connection.check()
