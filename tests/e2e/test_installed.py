"""An installation of the wheel, and projects that are no clone: the code lies elsewhere."""

import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests import prefect_home
from tests.e2e.project import GUARD, ROOT, TINY, Project, wait
from tests.e2e.served import serve, stop
from tests.ports import free_port

pytestmark = pytest.mark.slow

CODE = ("crosstrain", "flows", "tasks", "transfer")
SHRUNK = [
    word
    for name, value in {**TINY, "target.labels_per_class": 10, "split.test": 0.7}.items()
    if not name.endswith(".path")
    for word in ("--set", f"{name}={value}")
]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with crosstrain installed from its wheel; its requirements are the tests' own."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in CODE:
        shutil.copytree(ROOT / name, folder / "code" / name, ignore=left_out)
    for name in ("pyproject.toml", "README.md", "crosstrain_flows.py"):
        shutil.copy(ROOT / name, folder / "code")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    quiet = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", *quiet, "--no-build-isolation", "-w", folder, folder / "code"]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", *quiet, "--target", folder / "site", wheel], check=True)
    return folder / "site"


@pytest.fixture
def project(site: Path, tmp_path: Path, digits: list[tuple[str, bytes]]) -> Project:
    """A project made by the installed command line, of JPEG files, with code of its user's."""
    folder = tmp_path / "plants"
    for name, content in digits[:700]:
        write_jpeg(folder / "data/source" / name, content)
    for name, content in digits[900:1200]:
        write_jpeg(folder / "data/target" / name, content)
    for name in CODE:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('not of crosstrain')\n")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW"))}
    environment = inherited | {
        "PYTHONPATH": f"{GUARD}{os.pathsep}{site}",
        "PATH": f"{site / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "NETWORK_ATTEMPTS": str(tmp_path / "attempts.txt"),
    }
    made = Project(folder, environment, program=site / "bin/crosstrain")
    made.run("init", ".", "--no-git")
    prefect_home.write(folder / ".prefect")
    return made


def write_jpeg(path: Path, png: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(png)).save(path.with_suffix(".jpg"), quality=95)


def test_a_project_of_ones_own_trains_and_predicts_from_a_folder_below_it(
    project: Project, site: Path
) -> None:
    below = replace(project, inside=Path("data/target"))
    below.run("retrain", *SHRUNK)
    result = project.result()
    assert (result.target, result.promoted) == ("target", True)
    assert (project.folder / "reports/retrain.html").exists()
    shown = below.run("champion").stdout
    assert "crosstrain-target" in shown
    photo = next((project.folder / "data/target/3").iterdir())
    assert f"{photo.resolve()}: " in below.run("predict", f"3/{photo.name}").stdout
    assert not list(site.rglob("build")) and not (project.folder / "data/target/build").exists()


def test_what_a_result_depends_on_is_the_installed_code(project: Project, site: Path) -> None:
    words = ("--used-by", "params.yaml", "--out", "data.json", "--settings", "settings.json")

    def digest() -> str:
        project.run("data", "verify", *words)
        return (project.folder / "settings.json").read_text()

    first = digest()
    assert digest() == first
    file = site / "transfer/training/recipe.py"
    code = file.read_text()
    file.write_text(code.replace("steps: int = Field(200", "steps: int = Field(201"))
    try:
        changed = digest()
    finally:
        file.write_text(code)
    assert '"steps": 201' in changed and '"steps": 200' in first
    assert digest() == first


def test_it_can_be_served(project: Project) -> None:
    served = serve(project, (free_port(), free_port()))
    more = {k: v for k, v in TINY.items() if not k.endswith(".path") and not k.startswith("adapt")}
    identity = served.start(
        settings__methods=["fine_tune"],
        settings__seeds=[0],
        settings__steps=20,
        settings__more=more,
    )
    assert served.finished(identity)["state"]["type"] == "COMPLETED"
    wait(lambda: not any("prefect.engine" in line for line in project.processes()))
    stop(served)
