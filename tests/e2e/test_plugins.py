"""A method and a backbone of a package outside the repository, from settings to a served model.

The package is that of docs/how-to/add-a-method.md.
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

from tests.docs.how_to import package
from tests.e2e.conftest import copy
from tests.e2e.project import Project
from tests.tasks.tracking.test_models import ABSENT, BARE

pytestmark = pytest.mark.slow

WORDS = (
    "retrain",
    "--set",
    "adapt.methods=[fine_tune, last_stage]",
    "--set",
    "methods.last_stage.learning_rate=0.02",
    "--set",
    "backbone.name=leaf",
    "--set",
    "promote.rules=[{rule: loads_back, tolerance: 1.0e-5}]",
)


@pytest.fixture(scope="module")
def project(
    digit_project: Project, api: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, Path]:
    """A project after its first run with the package, and the package's folder."""
    folder = tmp_path_factory.mktemp("plugins")
    made = copy(digit_project, folder / "project", api)
    path = f"{folder / 'site'}{os.pathsep}{made.environment['PYTHONPATH']}"
    made = replace(made, environment=made.environment | {"PYTHONPATH": path})
    leafnet = package(folder / "site")
    made.run(*WORDS)
    return made, leafnet


def without(project: Project) -> Project:
    """The same project where the package is not installed."""
    path = project.environment["PYTHONPATH"].partition(os.pathsep)[2]
    return replace(project, environment=project.environment | {"PYTHONPATH": path})


def stored(project: Project) -> set[Path]:
    return {file.parent for file in project.folder.glob("build/adapt/*/card.json")}


def one_picture(project: Project) -> Path:
    return min(project.folder.glob("data/small/*/*"))


def test_its_method_is_an_arm_with_its_own_settings(project: tuple[Project, Path]) -> None:
    made, _ = project
    assert {arm.method for arm in made.result().arms} == {"scratch", "fine_tune", "last_stage"}
    cards = [json.loads((folder / "card.json").read_text()) for folder in stored(made)]
    assert {member["backbone_spec"]["name"] for card in cards for member in card["members"]} == {
        "leaf"
    }


def test_a_setting_that_it_does_not_have_is_refused(project: tuple[Project, Path]) -> None:
    words = ("--set", "methods.last_stage.rate=0.1")
    done = project[0].run("retrain", *words, code=2)
    assert "methods.last_stage.rate: there is no such setting" in done.stderr


def test_its_model_answers_where_the_package_is_not_installed(
    project: tuple[Project, Path], tmp_path: Path
) -> None:
    made, _ = project
    (tmp_path / "sitecustomize.py").write_text(BARE.format(absent=(*ABSENT, "crosstrain")))
    model = min(made.folder.glob("mlruns/**/MLmodel")).parent
    script = (
        "import sys, json, pathlib, mlflow\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "print(json.dumps(model.predict([pathlib.Path(sys.argv[2])])))\n"
        "import leafnet.leaf\n"
        "print(leafnet.leaf.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(model), str(one_picture(made))],
        env=made.environment | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, answer, place = done.stdout.splitlines()
    assert "library.zip" in place
    printed = made.run("predict", str(one_picture(made)), "--target", "small", "--json").stdout
    expected = json.loads(printed)
    (served,) = json.loads(answer)
    assert served["label"] == expected["label"]
    np.testing.assert_allclose(served["probability"], expected["probability"], atol=1e-6)


def test_a_model_whose_package_is_missing_says_what_is_missing(
    project: tuple[Project, Path],
) -> None:
    made = without(project[0])
    done = made.run("predict", str(one_picture(made)), "--target", "small", code=5)
    assert "the backbone 'leaf' is missing" in done.stderr
    assert "crosstrain.backbones" in done.stderr


def test_a_method_whose_package_is_missing_says_so(project: tuple[Project, Path]) -> None:
    done = without(project[0]).run("retrain", "--set", "adapt.methods=[last_stage]", code=2)
    assert "there is no 'last_stage'" in done.stderr


def test_an_edit_of_the_package_trains_only_the_arms_that_use_it(
    project: tuple[Project, Path],
) -> None:
    made, leafnet = project
    before = stored(made)
    made.run(*WORDS)
    assert stored(made) == before
    file = leafnet / "last_stage.py"
    file.write_text(file.read_text() + "\n# edited\n")
    made.run(*WORDS)
    (anew,) = stored(made) - before
    assert json.loads((anew / "card.json").read_text())["members"][0]["arm"] == "last_stage/0"


def test_a_package_that_cannot_be_imported_is_named(
    project: tuple[Project, Path], edit: Callable[[Path, str], None]
) -> None:
    made, leafnet = project
    edit(leafnet / "last_stage.py", "import no_such_module\n")
    done = made.run("retrain", code=2)
    assert "the plug-in 'last_stage' of the package leafnet" in done.stderr
    assert "ModuleNotFoundError: No module named 'no_such_module'" in done.stderr
    edit(leafnet / "last_stage.py", "")
    assert "has no METHOD" in made.run("retrain", code=2).stderr


@pytest.fixture
def edit() -> Callable[[Path, str], None]:
    """Rewrite a file so that no bytecode of the last second is taken for its own."""

    def rewrite(file: Path, text: str) -> None:
        file.write_text(text + "#" * file.stat().st_size + "\n")

    return rewrite
