"""The champion leaves for the edge: by the command line, and back by the example."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import copy
from tests.e2e.project import ROOT, Project
from tests.examples.test_predict_onnx import FILES

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "examples" / "predict_onnx.py"
ODD = ("wide", "RGBA", "palette", "EXIF 6", "16 bit", "grey")


@pytest.fixture(scope="module")
def exported(
    trained: Project, tmp_path_factory: pytest.TempPathFactory, api: str
) -> tuple[Project, dict[str, Any]]:
    """A copy of the trained project, with an 8-bit export, and what the command printed."""
    project = copy(trained, tmp_path_factory.mktemp("export") / "project", api)
    options = ("--target", "small", "--format", "onnx-int8", "--set", "export.margin=0.1", "--json")
    return project, json.loads(project.run("export", *options).stdout)


def test_it_lies_in_exports_with_its_report(exported: tuple[Project, dict[str, Any]]) -> None:
    project, report = exported
    out = project.folder / "exports/small"
    assert json.loads((out / "model.int8.onnx.json").read_text()) == report
    assert (report["model"], report["version"]) == ("crosstrain-small", 1)
    assert report["parity"]["items"] == project.result().test_items
    assert report["parity"]["model_accuracy"] == pytest.approx(project.result().chosen.accuracy)
    assert [engine["name"] for engine in report["engines"]] == ["torch", "onnx", "onnx-int8"]
    assert "| onnx-int8 |" in (out / "model.int8.onnx.md").read_text()


def test_mlflow_has_the_file_and_the_figures(exported: tuple[Project, dict[str, Any]]) -> None:
    from mlflow import MlflowClient

    project, report = exported
    store = MlflowClient(f"sqlite:///{project.folder}/mlruns/mlflow.db")
    version = store.get_model_version("crosstrain-small", "1")
    assert version.tags["export.onnx-int8.sha256"] == report["sha256"]
    kept = project.folder.glob(f"mlruns/artifacts/{version.run_id}/artifacts/exports/*")
    assert "model.int8.onnx" in {path.name for path in kept}


def test_a_demand_that_cannot_be_shown_is_refused(
    exported: tuple[Project, dict[str, Any]], tmp_path: Path
) -> None:
    project, _ = exported
    options = ("--target", "small", "--format", "onnx-int8", "--out", str(tmp_path / "out"))
    done = project.run("export", *options, "--set", "export.margin=0", code=5)
    assert "convert" in done.stderr and "(stored)" in done.stderr
    assert "is refused" in done.stderr and "export.margin" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_example_answers_as_predict(
    exported: tuple[Project, dict[str, Any]], tmp_path: Path
) -> None:
    project, _ = exported
    files = []
    for name in ODD:
        files.append(tmp_path / f"{name}.picture")
        files[-1].write_bytes(FILES[name])
    out = tmp_path / "out"
    printed = project.run("export", "--target", "small", "--out", str(out)).stdout
    assert printed.splitlines()[-1] == str(out / "model.onnx")
    mine = project.run("predict", *map(str, files), "--target", "small", "--json").stdout
    command = [sys.executable, EXAMPLE, out / "model.onnx", "--json", *files]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for own_line, other_line in zip(mine.splitlines(), theirs.splitlines(), strict=True):
        own, other_answer = (json.loads(line) for line in (own_line, other_line))
        assert (own["file"], own["label"]) == (other_answer["file"], other_answer["label"])
        names = list(own["probabilities"])
        pairs = [[row["probabilities"][name] for name in names] for row in (own, other_answer)]
        np.testing.assert_allclose(pairs[0], pairs[1], atol=2e-5)


@pytest.mark.slow
def test_other_data_than_the_champions_is_refused_unless_told_otherwise(
    exported: tuple[Project, dict[str, Any]], tmp_path: Path
) -> None:
    project = copy(exported[0], tmp_path / "project", exported[0].environment["PREFECT_API_URL"])
    Image.new("L", (8, 8), 77).save(project.folder / "data/small/3/new.png")
    done = project.run("export", "--target", "small", code=3)
    assert "was made from" in done.stderr and "--changed-data" in done.stderr
    project.run("export", "--target", "small", "--changed-data")
    assert (project.folder / "exports/small/model.onnx").is_file()


def test_tflite_says_what_it_lacks(exported: tuple[Project, dict[str, Any]]) -> None:
    project, _ = exported
    done = project.run("export", "--target", "small", "--format", "tflite", code=2)
    assert "litert-torch" in done.stderr and "requirements-tflite.txt" in done.stderr
    assert not list(project.folder.glob("exports/small/*.tflite"))


def test_an_unknown_format_and_an_unknown_target_are_named(
    exported: tuple[Project, dict[str, Any]],
) -> None:
    project, _ = exported
    assert "onnx-int8" in project.run("export", "--format", "coreml", code=2).stderr
    assert "no champion" in project.run("export", "--target", "nobody", code=4).stderr
