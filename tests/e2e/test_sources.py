"""A run with two source datasets, and their union: each is judged, and each arm is kept by name.

One source is the digits; of the other the labels are wrong, so that there is a better one to find.
"""

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import copy
from tests.e2e.project import LOG, Project

pytestmark = pytest.mark.slow

NAME = "crosstrain-small"
OTHER = slice(1300, 1600)
SOURCES = ("large", "other", "large and other")
METHODS = ("linear_probe", "fine_tune")
SETTINGS = (
    "more_sources=[{path: data/other}]",
    "pretrain.jointly=true",
    f"adapt.methods=[{', '.join(METHODS)}]",
    "adapt.seeds=[0, 1]",
)
ARMS = {"scratch/0", "scratch/1"} | {
    f"{method}/{source}/{seed}" for method in METHODS for source in SOURCES for seed in (0, 1)
}
Done = tuple[Project, "subprocess.CompletedProcess[str]"]


def retrain(project: Project, *more: str) -> "subprocess.CompletedProcess[str]":
    words = [word for setting in (*SETTINGS, *more) for word in ("--set", setting)]
    return project.run("retrain", *words)


@pytest.fixture(scope="module")
def several(
    digit_project: Project,
    api: str,
    write_digits: Callable[[Path, slice], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Done:
    """After a run of two sources and their union."""
    made = copy(digit_project, tmp_path_factory.mktemp("sources") / "several", api)
    write_digits(made.folder / "data/right", OTHER)
    for folder in sorted((made.folder / "data/right").iterdir()):
        wrong = made.folder / "data/other" / str((int(folder.name) + 1) % 10)
        wrong.parent.mkdir(exist_ok=True)
        folder.rename(wrong)
    return made, retrain(made)


@pytest.fixture(scope="module")
def finalists(several: Done, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """After another run of the same, in which the best go on after their first seed."""
    made = copy(several[0], tmp_path_factory.mktemp("sources") / "finalists")
    made = made.at(made.folder, several[0].environment["PREFECT_API_URL"])
    return made, retrain(made, "adapt.finalists=1")


def names(project: Project) -> list[str]:
    return [f"{arm.group}/{arm.seed}" for arm in project.result().arms]


def test_every_source_has_a_gain_and_a_verdict(several: Done) -> None:
    result = several[0].result()
    assert tuple(source.name for source in result.sources) == SOURCES
    for source in result.sources:
        assert source.gain.low <= source.gain.point <= source.gain.high
        assert source.verdict in ("positive", "none", "negative")
        assert (source.verdict == "positive") == (source.gain.low > 0)
        assert source.members
        assert all(member.split("/")[1] == source.name for member in source.members)
        assert source.adds is not None
    gains = {source.name: source.gain.point for source in result.sources}
    assert gains["large"] > gains["other"]


def test_arms_are_named_by_method_source_and_seed(several: Done) -> None:
    project, done = several
    result = project.result()
    assert sorted(names(project)) == sorted(ARMS)
    for arm in result.arms:
        method, *source = arm.group.split("/")
        assert (arm.method, arm.sources) == (method, source)
        assert arm.uses_source == bool(source) and arm.finalist
    assert sum(arm.weight for arm in result.arms) == pytest.approx(1)
    assert set(result.chosen.members) == {
        name for name, arm in zip(names(project), result.arms, strict=True) if arm.weight > 0
    }
    assert not any(arm.weight for arm in result.arms if set(arm.sources) & set(result.left_out))
    steps = done.stderr.splitlines()
    assert all(LOG.fullmatch(line) for line in steps), done.stderr
    step_names = {line.split(" - ")[1].split("  ")[0].strip() for line in steps}
    assert step_names >= {f"pretrain {name}" for name in SOURCES} | {
        f"adapt {name}" for name in ARMS
    }
    assert step_names >= {f"fingerprint {name}" for name in ("large", "other", "small")}


def test_the_report_lists_every_source_and_arm(several: Done) -> None:
    project, _ = several
    folder, result = project.folder / "reports", project.result()
    page = (folder / "retrain.html").read_text()
    for arm in result.arms:
        assert f">{arm.group}</th>" in page
    for source in result.sources:
        assert f">{source.name}</th>" in page
        assert ", ".join(source.members) in page
    for record in (*result.data.sources, result.data.target):
        assert record.md5 in page
    for name in ("large", "other"):
        assert f'href="validation/{name}.html"' in page
        assert (folder / "validation" / f"{name}.html").is_file()
    with (folder / "plots/arms.csv").open() as file:
        assert [row["arm"] for row in csv.DictReader(file)] == names(project)
    with (folder / "plots/curves.csv").open() as file:
        assert {row["arm"] for row in csv.DictReader(file)} == ARMS | {
            f"pretrain {name}" for name in SOURCES
        }


def store(project: Project) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{project.folder}/mlruns/mlflow.db")


def children(project: Project) -> dict[str, Any]:
    """The child runs of the last run, by name; each name once."""
    runs = store(project).search_runs(
        [store(project).get_experiment_by_name("crosstrain").experiment_id],
        f"tags.mlflow.parentRunId = '{project.result().mlflow_run}'",
    )
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_name = {run.info.run_name: run for run in runs}
    assert len(by_name) == len(runs)
    return by_name


def test_mlflow_has_a_child_run_for_each_arm_and_every_dataset(several: Done) -> None:
    project, result = several[0], several[0].result()
    runs = children(project)
    assert set(runs) == ARMS
    for name, arm in zip(names(project), result.arms, strict=True):
        assert runs[name].data.params["method"] == arm.method
        assert runs[name].data.params["sources"] == json.dumps(arm.sources)
        assert runs[name].data.metrics["test_accuracy"] == pytest.approx(arm.test)
    run = store(project).get_run(result.mlflow_run)
    md5 = {record.name: record.md5 for record in (*result.data.sources, result.data.target)}
    assert list(md5) == ["large", "other", "small"]
    assert {i.dataset.name: i.dataset.digest for i in run.inputs.dataset_inputs} == md5
    assert {name: run.data.tags[f"md5.{name}"] for name in md5} == md5
    maps = project.folder.glob(f"mlruns/artifacts/{result.mlflow_run}/**/transfer_maps/*/*.json")
    assert {path.parent.name for path in maps} == {name.replace("/", "-") for name in ARMS}


def test_the_registered_model_tells_its_members_and_its_data(several: Done) -> None:
    project, result = several[0], several[0].result()
    version = store(project).get_model_version(NAME, str(result.version))
    md5 = {record.name: record.md5 for record in (*result.data.sources, result.data.target)}
    assert {name: version.tags[f"data.{name}"] for name in md5} == md5
    assert version.tags["arms"] == str(len(ARMS))
    (card,) = project.folder.glob("mlruns/artifacts/**/model/card.json")
    card_values = json.loads(card.read_text())
    assert [member["arm"] for member in card_values["members"]] == result.chosen.members
    assert card_values["data"] == md5


def test_a_backbone_of_both_datasets_learned_the_classes_of_both(several: Done) -> None:
    cards = [
        json.loads(path.read_text())
        for path in several[0].folder.glob("build/pretrain/*/card.json")
    ]
    assert {card["source"] for card in cards} == set(SOURCES)
    assert all(sorted(card["class_names"]) == [str(k) for k in range(10)] for card in cards)


def test_methods_that_are_not_promising_are_stopped_after_their_first_seed(
    finalists: Done,
) -> None:
    project, done = finalists
    result = project.result()
    seeds: dict[str, set[int]] = {}
    for arm in result.arms:
        seeds.setdefault(arm.group, set()).add(arm.seed)
    stopped = {arm.group for arm in result.arms if not arm.finalist}
    assert set(seeds) == {name.rpartition("/")[0] for name in ARMS}
    assert {group for group, seeds_of_group in seeds.items() if seeds_of_group == {0}} == stopped
    assert all(
        seeds_of_group == {0, 1} for group, seeds_of_group in seeds.items() if group not in stopped
    )
    assert "scratch" not in stopped
    assert 0 < len(stopped) < len(seeds) - 1
    assert "going on with " in done.stderr


def test_what_was_stopped_is_no_member_and_still_tells_what_its_source_is_worth(
    finalists: Done,
) -> None:
    project, _ = finalists
    result = project.result()
    assert not any(arm.weight for arm in result.arms if not arm.finalist)
    assert sum(arm.weight for arm in result.arms) == pytest.approx(1)
    assert tuple(source.name for source in result.sources) == SOURCES
    assert all(member.split("/")[1] == s.name for s in result.sources for member in s.members)
    assert set(children(project)) == set(names(project))
    page = (project.folder / "reports/retrain.html").read_text()
    stopped = sum(not arm.finalist for arm in result.arms)
    assert page.count('<span class="muted">stopped</span>') == stopped


def test_nothing_is_trained_again_for_fewer_finalists(several: Done, finalists: Done) -> None:
    def arms(project: Project) -> set[str]:
        return {path.parent.name for path in project.folder.glob("build/adapt/*/stored.json")}

    assert arms(finalists[0]) == arms(several[0])
    assert {"pretrain", "adapt"} <= set(finalists[0].result().seconds.reused)
