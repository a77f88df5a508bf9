"""TFLite needs another environment, and says which; the classes travel inside the file."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.transfer.deployment.export import models
from transfer.core.errors import SettingsError
from transfer.deployment.export import tflite
from transfer.deployment.export.contract import contract
from transfer.deployment.export.inference_graph import Whole
from transfer.models import predictor

ROOT = Path(__file__).parents[4]


def test_without_that_environment_it_says_how_to_make_it(tmp_path):
    whole = Whole(predictor.load(models.trained(tmp_path / "model")))
    images = models.held_out(3).records.numpy()
    python = tmp_path / "python"
    with pytest.raises(SettingsError, match=f"there is no {python}") as caught:
        tflite.write(python, whole, tmp_path / "model.tflite", {}, images, [1])
    assert f"pip install -r {tflite.REQUIREMENTS}" in str(caught.value)
    assert "typing-extensions" in str(caught.value)
    assert (ROOT / tflite.REQUIREMENTS).is_file()
    assert not (tmp_path / "model.tflite").exists()


def test_a_python_without_the_package_is_named():
    with pytest.raises(SettingsError, match=r"No package metadata was found for litert-torch"):
        tflite.check(Path(sys.executable))


def test_classes_and_contract_are_files_inside_the_file(tmp_path):
    card = predictor.load(models.trained(tmp_path / "model")).card
    file, content = tmp_path / "model.tflite", np.random.default_rng(0).bytes(500)
    file.write_bytes(content)
    tflite.attach(file, contract(card, 2))
    assert file.read_bytes().startswith(content)
    with zipfile.ZipFile(file) as archive:
        assert archive.read("labels.txt").decode().split() == list(card.class_names)
        told = json.loads(archive.read("contract.json"))
    assert told["version"] == "2" and json.loads(told["input"])["size"] == card.spec.size
