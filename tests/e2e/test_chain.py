"""The whole chain on two folders of digits: what a first run leaves, and what a second one does."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import copy
from tests.e2e.project import LOG, Project, figures, together, wait

NAME = "crosstrain-small"
ASK = """
import json, sys
from pathlib import Path
import mlflow, numpy as np
files, arrays, answer = sys.argv[1:]
model = mlflow.pyfunc.load_model("models:/crosstrain-small@champion", suppress_warnings=True)
asked = [Path(file) for file in json.loads(open(files).read())]
rows = lambda answers: [list(a["probabilities"].values()) for a in answers]
np.savez(answer, files=rows(model.predict(asked)), arrays=rows(model.predict(np.load(arrays))))
"""
FIELDS = {
    "gain": {"metric", "point", "low", "high"},
    "scratch": {"accuracy", "low", "high"},
    "chosen": {"accuracy", "macro_f1", "low", "high", "members", "weights"},
    "seconds": {"total", "between", "steps"},
    "data": {"sources", "target"},
}


@pytest.fixture(scope="module")
def report_json(trained: Project) -> dict[str, Any]:
    """reports/retrain.json as a stranger reads it."""
    text = (trained.folder / "reports/retrain.json").read_text()
    report: dict[str, Any] = json.loads(text)
    return report


@pytest.fixture(scope="module")
def tested(trained: Project, report_json: dict[str, Any]) -> tuple[list[str], np.ndarray]:
    """Ids of the test items, and what the evaluation measured the chosen model to say of them."""
    (file,) = trained.folder.glob("build/evaluate/*/predictions.npz")
    with np.load(file, allow_pickle=False) as stored:
        weights = np.array([arm["weight"] for arm in report_json["arms"]])
        mixed = np.tensordot(weights, stored["probabilities"], 1)
        return stored["ids"].tolist(), mixed


@pytest.fixture(scope="module")
def store(trained: Project) -> Any:
    """A client of the project's tracking store, by its absolute address."""
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{trained.folder}/mlruns/mlflow.db")


def md5_of(folder: Path) -> str:
    """DVC's fingerprint of a folder."""
    rows = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": relative}
        for relative, path in sorted(
            (path.relative_to(folder).as_posix(), path)
            for path in folder.rglob("*")
            if path.is_file()
        )
    ]
    return hashlib.md5(json.dumps(rows).encode()).hexdigest() + ".dir"


@pytest.fixture(scope="module")
def md5(trained: Project) -> dict[str, str]:
    return {name: md5_of(trained.folder / "data" / name) for name in ("large", "small")}


def test_terminal_shows_steps_then_table_verdict_and_promotion(first_run: Any) -> None:
    _, done = first_run
    steps = done.stderr.splitlines()
    assert all(LOG.fullmatch(line) for line in steps), done.stderr
    assert [line.split(" - ")[1].split("  ")[0].strip() for line in steps][:3] == [
        "fingerprint large",
        "fingerprint small",
        "specify",
    ]
    for words in ("fine_tune", "scratch ensemble", "verdict positive", f"Promoted: {NAME}"):
        assert words in done.stdout
    assert "Report: reports/retrain.html" in done.stdout
    assert done.stdout.isascii()


def test_report_has_the_documented_fields(trained: Project, report_json: dict[str, Any]) -> None:
    assert json.loads(trained.result().model_dump_json()) == report_json
    assert report_json["verdict"] in ("positive", "none", "negative")
    for section, names in FIELDS.items():
        assert names <= set(report_json[section])
    assert [(arm["method"], arm["seed"]) for arm in report_json["arms"]] == [
        ("scratch", 0),
        ("fine_tune", 0),
    ]
    assert all({"validation", "test", "seconds"} <= set(arm) for arm in report_json["arms"])
    assert [(arm["group"], arm["sources"]) for arm in report_json["arms"]] == [
        ("scratch", []),
        ("fine_tune", ["large"]),
    ]
    assert [source["name"] for source in report_json["sources"]] == ["large"]
    assert report_json["left_out"] == []
    assert report_json["promoted"] is True
    assert report_json["reasons"]
    (source,), target = report_json["data"]["sources"], report_json["data"]["target"]
    for name, dataset in (("large", source), ("small", target)):
        files = sum(path.is_file() for path in (trained.folder / "data" / name).rglob("*"))
        assert (dataset["path"], dataset["items"], dataset["rejects"]) == (f"data/{name}", files, 0)
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|crosstrain \d[\d.]*", report_json["code_revision"])
    assert max(report_json["seconds"]["steps"].values()) <= report_json["seconds"]["total"]
    assert 0 < report_json["seconds"]["between"] < report_json["seconds"]["total"]


class Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, v or "") for k, v in attrs if k in ("src", "href", "xlink:href")]


def test_page_is_self_contained(trained: Project) -> None:
    page = (trained.folder / "reports/retrain.html").read_text()
    links = Links(page).found
    assert any(link.startswith("data:image/png") for _, link in links)
    for tag, link in links:
        if not link.startswith(("#", "data:")):
            assert (tag, "://" in link) == ("a", False)
            assert (trained.folder / "reports" / link).is_file()
    assert not re.search(r"@import|url\((?!['\"]?(?:#|data:))", page)
    assert "<svg" in page


def test_metrics_and_plots_are_written_for_dvc(
    trained: Project, report_json: dict[str, Any]
) -> None:
    metrics = json.loads((trained.folder / "reports/metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(report_json["chosen"]["accuracy"], abs=1e-5)
    names = {path.name for path in (trained.folder / "reports/plots").iterdir()}
    assert names == {"confusion.csv", "reliability.csv", "arms.csv", "curves.csv"}


def test_champion_predict_and_report_answer(
    trained: Project, tested: tuple[list[str], np.ndarray], report_json: dict[str, Any]
) -> None:
    ids, probabilities = tested
    files = [f"data/small/{item}" for item in ids[:3]]
    commands = (
        ("champion", "--target", "small", "--json"),
        ("predict", *files, "--target", "small", "--json"),
        ("report", "--json"),
        ("report",),
    )
    shown, predicted, report, text = (
        done.stdout for done in together([partial(trained.run, *words) for words in commands])
    )
    champion = json.loads(shown)
    assert (champion["name"], champion["version"]) == (NAME, 1)
    assert champion["aliases"]["champion"] == 1
    assert champion["figures"]["accuracy"] == pytest.approx(
        report_json["chosen"]["accuracy"], abs=1e-6
    )
    lines = [json.loads(line) for line in predicted.splitlines()]
    assert [line["file"] for line in lines] == [str(trained.folder / file) for file in files]
    for line, row in zip(lines, probabilities, strict=False):
        assert line["label"] == str(row.argmax())
        assert line["probability"] == pytest.approx(row.max(), abs=1e-5)
        assert [line["probabilities"][str(k)] for k in range(10)] == pytest.approx(row, abs=1e-5)
    assert json.loads(report) == report_json
    assert report_json["sentence"] in " ".join(text.split())


def test_data_revisions_are_in_run_version_and_blessing(
    store: Any, report_json: dict[str, Any], md5: dict[str, str]
) -> None:
    run = store.get_run(report_json["mlflow_run"])
    inputs = {i.dataset.name: i.dataset.digest for i in run.inputs.dataset_inputs}
    assert inputs == {name: digest[:36] for name, digest in md5.items()} == md5
    (source,), target = report_json["data"]["sources"], report_json["data"]["target"]
    assert run.data.tags["md5.large"] == md5["large"] == source["md5"]
    assert run.data.tags["md5.small"] == md5["small"] == target["md5"]
    version = store.get_model_version_by_alias(NAME, "champion")
    assert {name: version.tags[f"data.{name}"] for name in md5} == md5
    blessing = json.loads(version.tags["blessing"])
    assert blessing["data"] == md5
    assert blessing["verdict"] == report_json["verdict"]
    assert [rule["passed"] for rule in blessing["rules"]] == [True] * len(report_json["rules"])


def test_run_has_a_finished_child_for_each_arm(store: Any, report_json: dict[str, Any]) -> None:
    experiment = store.get_experiment_by_name("crosstrain").experiment_id
    runs = store.search_runs([experiment])
    assert {run.info.status for run in runs} == {"FINISHED"}
    children = [
        r for r in runs if r.data.tags.get("mlflow.parentRunId") == report_json["mlflow_run"]
    ]
    assert {r.info.run_name for r in children} == {"scratch/0", "fine_tune/0"}


def test_champion_loaded_by_mlflow_gives_the_evaluated_probabilities(
    trained: Project, tested: tuple[list[str], np.ndarray], tmp_path: Path
) -> None:
    ids, probabilities = tested
    files = [trained.folder / "data/small" / item for item in ids]
    (tmp_path / "files.json").write_text(json.dumps([str(file) for file in files]))
    np.save(tmp_path / "arrays.npy", np.stack([np.asarray(Image.open(file)) for file in files]))
    inputs = [str(tmp_path / name) for name in ("files.json", "arrays.npy", "answer.npz")]
    subprocess.run(
        [sys.executable, "-c", ASK, *inputs],
        cwd=trained.folder,
        env=trained.environment | {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db"},
        check=True,
    )
    with np.load(inputs[-1]) as answer:
        assert np.abs(answer["files"] - probabilities).max() < 1e-5
        assert np.abs(answer["arrays"] - probabilities).max() < 1e-5


def test_no_network_was_tried_and_one_that_is_tried_is_seen(
    trained: Project, tmp_path: Path
) -> None:
    assert trained.attempts() == ""
    attempts = tmp_path / "attempts"
    environment = trained.environment | {"NETWORK_ATTEMPTS": str(attempts)}
    for code in (
        "import socket; socket.socket().connect(('192.0.2.1', 80))",
        "import urllib.request; urllib.request.urlopen('http://example.org', timeout=1)",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', "
        "'import socket; socket.getaddrinfo(\"example.org\", 80)'], check=True)",
    ):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=False
        )
        assert b"the network is refused" in done.stderr
    assert [line.split()[0] for line in attempts.read_text().splitlines()] == [
        "socket.connect",
        "socket.getaddrinfo",
        "socket.getaddrinfo",
    ]


def test_nothing_is_left_running(trained: Project) -> None:
    wait(lambda: not trained.processes(), seconds=20, every=0.2)


@pytest.fixture(scope="module")
def again(
    trained: Project, api: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, str, set[str]]:
    """The project after a second run with nothing changed: moved, and with a named server; what
    that run printed, and the packages it imported."""
    moved = copy(trained, tmp_path_factory.mktemp("again") / "moved", api)
    environment = moved.environment | {"PYTHONPROFILEIMPORTTIME": "1"}
    done = replace(moved, environment=environment).run("retrain", "--set", "run.workers=1")
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    packages = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    return moved, done.stdout, packages


def stored(project: Project) -> dict[str, int]:
    files = project.folder.glob("build/*/*/stored.json")
    return {str(f.relative_to(project.folder)): f.stat().st_mtime_ns for f in files}


def test_second_run_reuses_every_stored_step(trained: Project, again: Any) -> None:
    assert stored(again[0]) == stored(trained)
    result = again[0].result()
    steps = {name.split("/")[1] for name in stored(trained)}
    assert steps <= {name.split()[0] for name in result.seconds.reused}
    assert figures(result) == figures(trained.result())


def test_second_run_imports_nothing_that_it_has_no_work_for(again: Any) -> None:
    assert {"prefect", "torch"} <= again[2]
    assert not again[2] & {"mlflow", "sqlalchemy", "great_expectations", "matplotlib", "sklearn"}


def test_second_run_adds_no_run_and_no_version(
    trained: Project, again: Any, store: Any, report_json: dict[str, Any]
) -> None:
    from mlflow import MlflowClient

    other = MlflowClient(f"sqlite:///{again[0].folder}/mlruns/mlflow.db")
    experiment = store.get_experiment_by_name("crosstrain").experiment_id
    for mlflow in (store, other):
        assert len(mlflow.search_runs([experiment])) == 3
        assert len(mlflow.search_model_versions(f"name = '{NAME}'")) == 1
        assert int(mlflow.get_model_version_by_alias(NAME, "champion").version) == 1
    assert again[0].result().mlflow_run == report_json["mlflow_run"]
    assert "unchanged: this model is already the champion, version 1" in again[1]
    ledgers = [(p.folder / "mlruns/ledger.jsonl").read_text() for p in (trained, again[0])]
    assert ledgers[0] == ledgers[1]


def test_named_server_has_the_run_its_verdict_and_its_logs(again: Any, api: str) -> None:
    with httpx.Client(base_url=api) as client:

        def ask(kind: str, **query: Any) -> Any:
            answer = client.post(f"/{kind}/filter", json=query)
            answer.raise_for_status()
            return answer.json()

        runs = ask("flow_runs")
        (run,) = [r for r in runs if r["parameters"]["settings"]["run"]["workers"] == 1]
        assert run["parameters"]["settings"]["target"]["path"] == "data/small"
        assert run["state"]["type"] == "COMPLETED"
        of_run = {"flow_run_id": {"any_": [run["id"]]}}
        (verdict,) = ask("artifacts", artifacts=of_run)
        assert (verdict["type"], verdict["key"]) == ("markdown", "verdict")
        assert verdict["data"].startswith("## Positive: ")
        logs = ask("logs", logs=of_run)
        lines = {log["message"].split("  ")[0]: log for log in logs}
        assert {"pretrain large", "adapt scratch/0", "adapt fine_tune/0", "report"} <= set(lines)
        assert all(log["task_run_id"] for log in lines.values())
        logged = {log["task_run_id"] for log in lines.values()}
        own = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        wait(lambda: logged <= {task["id"] for task in ask("task_runs", **own)}, every=0.3)
