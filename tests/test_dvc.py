"""dvc.yaml and data.dvc under the real DVC, with a stand-in for the command line."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.store.source_digest import _closure, code_files, installed_code
from tasks.versioning import dataset_versions, demo_data
from transfer.core.errors import DataRefusedError
from transfer.settings.project import OPERATION, Settings

ROOT = Path(__file__).parents[1]
STAND_IN = f"""#!{sys.executable}
import json, sys
from pathlib import Path
import yaml
from tasks.versioning import dataset_versions as version
from transfer.core.errors import DataRefusedError
from transfer.settings.project import OPERATION

def table(name, text):
    path = Path("reports/plots") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

if sys.argv[1:3] == ["data", "verify"]:
    settings = yaml.safe_load(Path(sys.argv[sys.argv.index("--used-by") + 1]).read_text())
    used = [settings["source"], *settings["more_sources"], settings["target"]]
    out = sys.argv[sys.argv.index("--out") + 1]
    try:
        md5s = version.verify_all(Path("data.dvc"), [Path(use["path"]) for use in used])
    except DataRefusedError as error:
        sys.exit(str(error))
    Path(out).parent.mkdir(exist_ok=True)
    Path(out).write_text(json.dumps(md5s))
    written = {{"settings": settings, "code": Path("code.txt").read_text()}}
    Path(sys.argv[sys.argv.index("--settings") + 1]).write_text(json.dumps(written))
else:
    assert sys.argv[1:] == ["retrain", "--no-promote"]
    steps = yaml.safe_load(Path("params.yaml").read_text())["adapt"]["steps"]
    table("confusion.csv", "actual,predicted\\n0,0\\n0,1\\n1,1\\n")
    table("reliability.csv", "confidence,accuracy\\n0.5,0.4\\n0.9,0.8\\n")
    table("arms.csv", "arm,validation,test\\nscratch/0,0.8,0.7\\nl2_sp/0,0.9,0.8\\n")
    table("curves.csv", "arm,step,loss\\nscratch/0,0,2.3\\nscratch/0,1,2.0\\n")
    Path("reports/metrics.json").write_text(json.dumps({{"accuracy": steps / 1000}}))
"""


def run(*words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words] if words[0] == "dvc" else words
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


def commit(message: str) -> None:
    run("git", "add", "--all")
    run("git", "commit", "--quiet", "--message", message)


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("environment")
    (folder / "crosstrain").write_text(STAND_IN)
    (folder / "crosstrain").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "tester")
            patch.setenv(f"GIT_{role}_EMAIL", "tester@example.org")
        yield


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's DVC files, small stand-ins for the rest, data accepted and committed."""
    project = tmp_path_factory.mktemp("recorded")
    _copy_dvc_files(project)
    (project / "code.txt").write_text("1\n")
    for row in range(20):
        path = project / f"data/{('mnist', 'digits')[row % 2]}/{row % 5}/{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([row]))
    (project / "params.yaml").write_text(yaml.safe_dump(_params()))
    with contextlib.chdir(project):
        run("git", "init", "--quiet")
        dataset_versions.accept(Path("data.dvc"))
        commit("project")
    return project


@pytest.fixture
def project(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(recorded, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")


def _copy_dvc_files(project: Path) -> None:
    for name in (".dvcignore", ".gitignore", "data.dvc", "dvc.yaml"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / ".dvc", project / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))


def _params() -> dict[str, Any]:
    return {
        "source": {"path": "data/mnist"},
        "more_sources": [],
        "target": {"path": "data/digits"},
        "adapt": {"steps": 300},
    }


def test_demo_data_is_what_data_dvc_records_with_an_empty_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _copy_dvc_files(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    run("git", "init", "--quiet")
    demo_data.write(Path("data"))
    assert set(dataset_versions.verify_all(Path("data.dvc"))) == {"data/mnist", "data/digits"}
    run("git", "add", "--all")
    status = json.loads(run("dvc", "data", "status", "--json").stdout)
    assert "uncommitted" not in status


def test_every_dataset_that_the_settings_name_is_verified(
    project: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {"source": {"path": "data/mnist"}, "more_sources": [{"path": "data/digits"}]}
    shutil.copytree("data/mnist", "data/oaks")
    settings["target"] = {"path": "data/oaks"}
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    real = str(Path(sys.executable).with_name("crosstrain"))
    run(real, "data", "verify", "--used-by", "params.yaml", "--out", "reports/data.json")
    verified = json.loads(Path("reports/data.json").read_text())
    assert list(verified) == ["data/mnist", "data/digits", "data/oaks"]
    next(Path("data/digits/3").iterdir()).write_bytes(b"!")
    refused = run(real, "data", "verify", "--used-by", "params.yaml", ok=False)
    assert refused.returncode == 3
    assert "data/digits is not the version that data.dvc records" in refused.stderr


def test_the_stage_depends_on_data_and_on_every_setting_and_the_code(project: None) -> None:
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    made = [name for out in stages["verify"]["outs"] for name in out]
    assert stages["retrain"]["deps"] == made == ["reports/data.json", "reports/settings.json"]
    assert stages["verify"]["always_changed"]
    settings, code = _inputs()
    everything = Settings().model_dump(mode="json", by_alias=True)
    assert settings.keys() == everything.keys() - set(OPERATION)
    assert settings["methods"] == everything["methods"]  # params.yaml names none of them
    assert len(code["digest"]) == 64 and code["torch"]


def test_a_setting_that_is_set_and_a_default_that_changes_are_seen(
    project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, code = _inputs()
    _write({**_params(), "adapt": {"few": 7}})
    after, _ = _inputs()
    assert (before["adapt"]["few"], after["adapt"]["few"]) == (1000, 7)
    files = code_files("flows.retrain")
    changed = Path("adapt.py").absolute()
    changed.write_bytes(files["transfer/arms/adapt.py"].read_bytes() + b"FEW = 7\n")
    monkeypatch.setattr(
        "tasks.store.source_digest.code_files",
        lambda module: files | {"transfer/arms/adapt.py": changed},
    )
    assert installed_code("flows.retrain")["digest"] != code["digest"]


def test_the_code_is_every_module_of_the_flow() -> None:
    files = code_files("flows.retrain")
    modules = _closure("flows.retrain")
    assert "flows.retrain" in modules
    assert modules <= files.keys()
    assert {
        f"transfer/{p.relative_to(ROOT / 'transfer')}" for p in ROOT.glob("transfer/**/*.py")
    } <= (files.keys())
    assert "tasks/reports/report.html" in files


def _inputs() -> tuple[dict[str, Any], dict[str, str]]:
    """What the real command writes of settings and code."""
    settings = _read()
    settings["adapt"] = {k: v for k, v in settings["adapt"].items() if k != "steps"}
    Path("real.yaml").write_text(yaml.safe_dump(settings))
    real = str(Path(sys.executable).with_name("crosstrain"))
    words = ["--used-by", "real.yaml", "--out", "data.json", "--settings", "settings.json"]
    run(real, "data", "verify", *words)
    tree = json.loads(Path("settings.json").read_text())
    return tree["settings"], tree["code"]


def _read() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path("params.yaml").read_text())
    return found


def _write(params: dict[str, Any]) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(params))


@pytest.mark.slow
def test_repro_runs_once_then_again_only_for_what_changed(project: None) -> None:
    first = run("dvc", "repro").stdout
    assert "Running stage 'verify'" in first
    assert "Running stage 'retrain'" in first
    second = run("dvc", "repro").stdout
    assert "Running stage 'verify'" in second
    assert "Stage 'retrain' didn't change, skipping" in second
    Path("code.txt").write_text("2\n")  # another version of the code, or another default in it
    assert "Running stage 'retrain'" in run("dvc", "repro").stdout
    _write({**_read(), "more_sources": [{"path": "data/threes"}]})
    shutil.copytree("data/digits/3", "data/threes/3")
    assert "Running stage 'retrain'" in run("dvc", "repro").stdout
    Path("data/threes/3/new.png").write_bytes(b"new")  # data.dvc does not record data/threes
    assert "Running stage 'retrain'" in run("dvc", "repro").stdout


@pytest.mark.slow
def test_repro_stops_at_a_changed_byte_and_leaves_data_dvc_as_it_is(project: None) -> None:
    run("dvc", "repro")
    recorded = Path("data.dvc").read_bytes()
    report = Path("reports/metrics.json").read_bytes()
    victim = sorted(Path("data/digits/3").iterdir())[0]
    victim.write_bytes(b"!")
    refused = run("dvc", "repro", ok=False)
    assert "data/digits is not the version that data.dvc records" in refused.stderr
    assert f"changed, 1: 3/{victim.name}" in refused.stderr
    assert "Running stage 'retrain'" not in refused.stdout
    assert Path("data.dvc").read_bytes() == recorded
    assert Path("reports/metrics.json").read_bytes() == report


@pytest.mark.slow
def test_what_dvc_itself_records_is_refused_until_it_is_accepted(project: None) -> None:
    Path("data/digits/3/new.png").write_bytes(b"new")
    recorded = Path("data.dvc").read_bytes()
    run("dvc", "repro", "--all-pipelines", ok=False)
    assert Path("data.dvc").read_bytes() != recorded
    with pytest.raises(DataRefusedError, match="crosstrain data accept"):
        dataset_versions.verify(Path("data/digits"), Path("data.dvc"))
    accepted = dataset_versions.accept(Path("data.dvc"))
    run("dvc", "repro")
    verified = json.loads(Path("reports/data.json").read_text())
    assert verified == {f"data/{name}": md5 for name, md5 in accepted.items()}


@pytest.mark.slow
def test_metrics_plots_and_experiments_compare_versions(project: None) -> None:
    run("dvc", "repro")
    commit("300 steps")
    run("dvc", "exp", "run", "--set-param", "adapt.steps=500", "--set-param", "+adapt.few=7")
    assert _read()["adapt"] == {"steps": 500, "few": 7}
    commit("500 steps")
    diff = json.loads(run("dvc", "metrics", "diff", "HEAD~1", "HEAD", "--json").stdout)
    assert diff["reports/metrics.json"]["accuracy"] == {"old": 0.3, "new": 0.5, "diff": 0.2}
    run("dvc", "plots", "diff", "HEAD~1", "HEAD")
    page = Path("dvc_plots/index.html").read_text()
    for plot in ("confusion", "reliability", "arms", "curves"):
        assert f"vegaEmbed('#reports_plots_{plot}_csv'" in page
    assert "reports/retrain.html" in page
