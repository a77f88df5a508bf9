"""What stored results say a step costs."""

import json
import os
from pathlib import Path

import pytest

from tasks.schedule import cost_history
from tasks.schedule.cost_history import Overhead
from tests.tasks import small
from transfer.arms.plan import ArmPlan

TOLD = small.settings(pretrain={"training": {"steps": 60, "batch_size": 16}})
OWN = TOLD.backbone.backbone_spec.model_dump(mode="json")


def keep(step, name, card, seconds):
    folder = Path("build", step, name)
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "stored.json").write_text(json.dumps({"seconds": seconds}))


def arm(method, steps, *, target=None, spec=small.SPEC, backbone_spec=OWN):
    member = {"arm": f"{method}/0", "steps": steps, "backbone_spec": backbone_spec}
    return {"target": target or TOLD.target.label, "spec": spec.model_dump(), "members": [member]}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_steps_of_this_target_and_backbone_are_known_by_method(project):
    package = {"name": "mobilenet_v2", "options": {}}
    keep("adapt", "a", arm("scratch", 100), 5.0)
    keep("adapt", "b", arm("scratch", 100), 7.0)
    keep("adapt", "c", arm("scratch", 200), 40.0)
    keep("adapt", "d", arm("fine_tune", 100, backbone_spec=package), 90.0)
    keep("adapt", "other target", arm("scratch", 100, target="oaks"), 900.0)
    keep(
        "adapt",
        "other size",
        arm("scratch", 100, spec=small.SPEC.model_copy(update={"size": 64})),
        900.0,
    )
    keep(
        "adapt",
        "wider",
        arm("scratch", 100, backbone_spec={**OWN, "options": {"width": 99}}),
        900.0,
    )
    assert cost_history.arm_steps(TOLD, small.SPEC) == {
        ("scratch", OWN["name"]): pytest.approx(0.07),
        ("fine_tune", "mobilenet_v2"): pytest.approx(0.9),
    }


def test_only_the_latest_results_of_a_kind_are_asked(project):
    for i, seconds in enumerate((1.0, 1.0, 1.0, 9.0, 7.0, 8.0)):
        keep("adapt", f"{i}", arm("scratch", 100), seconds)
        os.utime(f"build/adapt/{i}/stored.json", (i, i))
    assert list(cost_history.arm_steps(TOLD, small.SPEC).values()) == [0.08]


def test_pretrainings_are_known_by_source(project):
    keep("pretrain", "a", {"source": "oaks", "steps": 600, "backbone_spec": OWN}, 30.0)
    assert cost_history.pretraining_step("oaks", TOLD) == 0.05
    assert cost_history.pretraining_step("elms", TOLD) is None


def test_what_is_damaged_or_not_there_is_passed_by(project):
    assert cost_history.arm_steps(TOLD, small.SPEC) == {}
    keep("pretrain", "a", {"source": "oaks", "steps": 600, "backbone_spec": OWN}, 30.0)
    Path("build/pretrain/a/card.json").write_text("{")
    assert cost_history.pretraining_step("oaks", TOLD) is None


def test_real_results_are_read(project):
    settings = small.settings(adapt={"training": {"steps": 20, "batch_size": 8}})
    into = small.target(settings)
    named = settings.model_copy(
        update={"target": settings.target.model_copy(update={"name": "small"})}
    )
    made = small.arm(ArmPlan("scratch", (), "scratch"), into, named, [])
    (step,) = cost_history.arm_steps(named, small.SPEC).values()
    assert 20 * step == pytest.approx(made.ref.seconds)


@pytest.mark.parametrize("text", ["", "[]", '{"promoted": 3}', '{"promoted": [["a", 1]]}'])
def test_a_damaged_memory_is_no_memory(project, text):
    cost_history.paths.BUILD.mkdir()
    (cost_history.paths.BUILD / "run_overheads.json").write_text(text)
    assert cost_history.overheads(True) == []
    cost_history.note(Overhead(1.0, 2.0), promote=True)
    assert cost_history.overheads(True) == [Overhead(1.0, 2.0)]


def test_the_latest_overheads_are_kept_apart_for_runs_that_promote(project):
    for base in (50.0, 20.0, 30.0, 10.0):
        cost_history.note(Overhead(base, 0.1), promote=True)
    cost_history.note(Overhead(70.0, 0.1), promote=False)
    assert [overhead.base for overhead in cost_history.overheads(True)] == [20.0, 30.0, 10.0]
    assert cost_history.overheads(False) == [Overhead(70.0, 0.1)]
    assert Overhead(20.0, 0.5).seconds(10) == 25.0
