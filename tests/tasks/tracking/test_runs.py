import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.tracking import connection, runs
from transfer.core.errors import CrosstrainError

SOURCE = runs.DatasetUse("animals", "data/animals", "0" * 32 + ".dir", 5000, "source")
TARGET = runs.DatasetUse("plants", "data/plants", "1" * 32, 700, "target")


def arm(seed, **more):
    history = {"loss": [2.0, 1.5, 1.25], "step": [10, 20, 30]}
    fields = {"params": {"rate": 0.1}, "metrics": {"accuracy": 0.5}, "history": history}
    return runs.ArmRecord(f"scratch/{seed}", **{**fields, **more})


def record(key="k", **more):
    fields = {
        "settings": {"target": {"path": "data/plants", "sizes": [1, 2]}, "seed": 7},
        "metrics": {"gain": 0.1},
        "tags": {"verdict": "positive"},
        "datasets": [SOURCE, TARGET],
        "arms": [arm(0), arm(1)],
        "artifacts": {},
    }
    return runs.RunRecord(key, "retrain plants", **{**fields, **more})


@pytest.fixture
def everything(project):
    def search(query="", view=1):
        store = connection.client()
        return store.search_runs([connection.experiment_id(store)], query, view)

    return search


def test_a_run_keeps_settings_metrics_datasets_and_tags(everything):
    run = connection.client().get_run(runs.log_run(record(seconds=12.0)))
    assert run.data.params == {
        "target.path": "data/plants",
        "target.sizes": "[1, 2]",
        "seed": "7",
    }
    assert run.data.metrics == {"gain": 0.1}
    assert run.data.tags["verdict"] == "positive"
    assert run.data.tags["crosstrain.key"] == "k"
    assert (run.info.run_name, run.info.status) == ("retrain plants", "FINISHED")
    assert run.info.end_time - run.info.start_time == pytest.approx(12_000, abs=5_000)
    used = {i.tags[0].value: i.dataset for i in run.inputs.dataset_inputs}
    assert {role: (d.name, d.digest) for role, d in used.items()} == {
        "source": ("animals", SOURCE.md5),
        "target": ("plants", TARGET.md5),
    }
    assert json.loads(used["source"].profile) == {"num_rows": 5000}
    matching_runs = everything(f"dataset.digest = '{SOURCE.md5}'")
    assert [r.info.run_id for r in matching_runs] == [run.info.run_id]


def test_each_arm_is_a_child_with_its_curves(everything):
    parent = runs.log_run(record())
    children = everything(f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {c.info.run_name for c in children} == {"scratch/0", "scratch/1"}
    assert {c.info.status for c in children} == {"FINISHED"}
    child = children[0]
    assert child.data.params == {"rate": "0.1"}
    assert child.data.metrics == {"accuracy": 0.5, "loss": 1.25}
    curve = connection.client().get_metric_history(child.info.run_id, "loss")
    assert sorted((m.step, m.value) for m in curve) == [(10, 2.0), (20, 1.5), (30, 1.25)]


def test_a_long_curve_and_many_settings_are_logged_completely(everything):
    many = {f"p{i}": i for i in range(150)}
    curve = {"loss": [i / 7 for i in range(2345)]}
    parent = runs.log_run(record(settings=many, arms=[arm(0, history=curve)]))
    (child,) = everything(f"tags.`mlflow.parentRunId` = '{parent}'")
    assert len(connection.client().get_run(parent).data.params) == 150
    kept = connection.client().get_metric_history(child.info.run_id, "loss")
    assert [m.value for m in sorted(kept, key=lambda m: m.step)] == curve["loss"]


def test_files_and_folders_become_artifacts(project, tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.png").write_bytes(b"a")
    (tmp_path / "table.csv").write_text("x")
    files = {"": tmp_path / "table.csv", "preview": tmp_path / "plots"}
    run = runs.log_run(record(artifacts=files))
    folder = project / "mlruns" / "artifacts" / run / "artifacts"
    kept = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert kept == {"table.csv", "preview/a.png"}


def test_a_missing_artifact_is_refused_before_anything_is_logged(everything):
    with pytest.raises(CrosstrainError, match=r"cannot log \['nowhere.png'\]"):
        runs.log_run(record(artifacts={"x": Path("nowhere.png")}))
    assert not everything(view=3)


def test_one_finished_run_for_each_key(everything):
    first = runs.log_run(record())
    assert runs.log_run(record(metrics={"gain": 9.0})) == first
    assert runs.log_run(record("other")) != first
    assert len(everything("tags.verdict = 'positive'")) == 2


def test_numbers_that_are_not_finite_are_named_and_left_out(project):
    run = runs.log_run(record(metrics={"gain": 0.1, "f1/x": math.nan, "loss": math.inf}))
    data = connection.client().get_run(run).data
    assert data.metrics == {"gain": 0.1}
    assert data.tags["crosstrain.not_finite"] == "f1/x, loss"


def test_an_invalid_record_leaves_no_run(everything):
    endless = runs.DatasetUse("x" * 999, "data/x", "2" * 32, 1, "target")
    with pytest.raises(CrosstrainError, match="could not log run retrain plants"):
        runs.log_run(record(datasets=[endless]))
    with pytest.raises(ValueError, match="zip"):
        runs.log_run(record(arms=[arm(0), arm(1, history={"loss": [1.0, 2.0], "step": [1]})]))
    assert not everything()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=12), unique=True, max_size=6))
def test_any_names_become_different_names_that_mlflow_takes(names):
    from mlflow.utils.validation import _validate_metric_name

    allowed = runs._allowed(names)
    assert list(allowed) == names
    assert len(set(allowed.values())) == len(names)
    for name in allowed.values():
        _validate_metric_name(name)


def test_plain_names_stay():
    names = ["recall/acer", "a.b-c_d e:f", "été"]
    assert runs._allowed(names) == {name: name for name in names}
    assert runs._allowed(["c#", "c+"]) == {"c#": "c_", "c+": "c__"}


def test_a_run_killed_at_any_step_is_logged_again_and_none_stays_running(
    project, deaths, monkeypatch, everything
):
    (project / "notes.txt").write_text("n")
    for step, copy in enumerate(deaths(project, "log", "key")):
        monkeypatch.chdir(copy)
        parent = runs.log_run(record(("key", "another key")[step % 2], arms=[arm(0)]))
        now = {run.info.run_id: run.info.status for run in everything()}
        assert set(now.values()) == {"FINISHED"}
        assert parent in now
        assert len(now) == 2
