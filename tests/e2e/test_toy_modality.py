"""A modality of another package works in every command: no code outside its folder depends on it.

The toy's items are vectors of sensor readings; see tests/plugins and tests/toy.py.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests import toy
from tests.e2e.project import Project

pytestmark = pytest.mark.slow

SETTINGS = {
    "source": {"path": "data/large.npz"},
    "target": {"path": "data/small", "labels_per_class": 10},
    "input": {"modality": "toy"},
    "backbone": {"width": 8},
    "split": {"test": 0.4},
    "augment": {"noise": 0.1},
    "pretrain": {"training": {"steps": 120, "batch_size": 32}, "look_every": 20},
    "adapt": {
        "methods": ["fine_tune"],
        "seeds": [0],
        "folds": 2,
        "training": {"steps": 80, "batch_size": 16},
    },
    "evaluate": {"replicates": 200},
    # the chain is tried, not what a tiny dataset is worth
    "promote": {"rules": [{"rule": "loads_back", "tolerance": 1e-5}, {"rule": "servable"}]},
    "run": {"device": "cpu"},
}
ELSEWHERE = """
import json, sys
from pathlib import Path
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(model.predict([Path(file) for file in sys.argv[2:]])))
"""


@pytest.fixture(scope="module")
def project(
    make_project: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """A project of readings, from .npz and from CSV files, with the toy as its champion's kind."""
    folder = tmp_path_factory.mktemp("toy")
    made = make_project(folder / "project")
    paths = [str(path) for path in toy.install(folder / "installed")]
    search = os.pathsep.join([made.environment["PYTHONPATH"], *paths])
    made = replace(made, environment=made.environment | {"PYTHONPATH": search})
    toy.write_npz(made.folder / "data/large.npz", 240, seed=1)
    toy.write_folders(made.folder / "data/small", 120, seed=2)
    (made.folder / "params.yaml").write_text(yaml.safe_dump(SETTINGS))
    made.run("retrain")
    return made


def test_it_has_a_champion_that_was_loaded_back_and_served(project: Project) -> None:
    result = project.result()
    assert result.promoted and result.version == 1
    rules = {rule.rule: rule for rule in result.rules}
    assert rules["loads_back"].passed and rules["servable"].passed
    (scan, *_) = (project.folder / "build/scan").glob("*/scan.json")
    facts = json.loads(scan.read_text())
    assert facts["spec"] == {"modality": "toy", "length": toy.LENGTH}
    assert (facts["dtype"], facts["shape"][1:]) == ("float32", [toy.LENGTH])


def test_the_version_answers_where_its_modality_is_not_installed(project: Project) -> None:
    (model,) = project.folder.glob("mlruns/**/MLmodel")
    files = sorted((project.folder / "data/small").rglob("*.csv"))[:5]
    bare = {k: v for k, v in project.environment.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ELSEWHERE, str(model.parent), *map(str, files)],
        env=bare,
        cwd=project.folder.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    served = json.loads(done.stdout.splitlines()[-1])
    printed = project.run("predict", *map(str, files), "--target", "small", "--json").stdout
    for answer, printed_answer in zip(served, map(json.loads, printed.splitlines()), strict=True):
        assert answer["label"] == printed_answer["label"]
        assert answer["probabilities"] == pytest.approx(printed_answer["probabilities"], abs=1e-5)


def test_new_readings_are_monitored(project: Project) -> None:
    toy.write_folders(project.folder / "new", 60, seed=3, shift=1.5)
    (project.folder / "new/flat/9999.csv").write_text("1, 2, many")
    project.run("monitor", "new", "--target", "small")
    report = json.loads((project.folder / "reports/monitor.json").read_text())
    drifted = {test["name"] for test in report["tests"] if test["drifted"]}
    assert {"features", "summary"} <= drifted
    assert (report["items"], report["rejected"], report["rejects"]) == (60, 1, {"wrong_type": 1})
    assert (project.folder / "reports/monitor.html").read_text().count("<svg") == 5


def test_it_is_exported_with_the_same_answers(project: Project) -> None:
    import onnxruntime

    printed = project.run("export", "--target", "small", "--format", "onnx", "--json").stdout
    parity = json.loads(printed)["parity"]
    assert parity["agreement"] == 1 and parity["largest"] < 1e-5
    file = project.folder / "exports/small/model.onnx"
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    values, _ = toy.readings(120, seed=2)
    (answers,) = session.run(None, {"inputs": values[:3]})
    paths = [project.folder / "data/small" / toy.CLASSES[i] / f"{i:04d}.csv" for i in range(3)]
    lines = project.run("predict", *map(str, paths), "--target", "small", "--json").stdout
    for answer, line in zip(answers, lines.splitlines(), strict=True):
        expected = json.loads(line)["probabilities"]
        np.testing.assert_allclose(answer, [expected[name] for name in toy.CLASSES], atol=1e-5)


def test_readings_are_scored(project: Project, tmp_path: Path) -> None:
    toy.write_folders(tmp_path / "more", 9, seed=4)
    done = project.run(
        "score", str(tmp_path / "more"), str(tmp_path / "out.parquet"), "--target", "small"
    )
    assert "9 items" in done.stdout


def test_a_setting_of_images_is_no_setting_of_readings(project: Project) -> None:
    done = project.run("retrain", "--set", "augment.rotate=5", code=2)
    assert "augment.rotate: there is no such setting" in done.stderr
    done = project.run("retrain", "--set", "input.modality=smell", code=2)
    assert "expected one of image, toy" in done.stderr
