"""What stored results say a step costs."""

import json
from pathlib import Path

import pytest

from tasks.schedule import cost_history
from tests.tasks import small
from transfer.arms.budget_policy import Cost
from transfer.arms.plan import Plan

TOLD = small.settings(pretrain={"training": {"steps": 60, "batch_size": 16}})
OWN = TOLD.backbone.body.model_dump(mode="json")


def keep(step, name, card, seconds):
    folder = Path("build", step, name)
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "stored.json").write_text(json.dumps({"seconds": seconds}))


def arm(method, steps, *, target=None, spec=small.SPEC, body=OWN):
    member = {"arm": f"{method}/0", "steps": steps, "body": body}
    return {"target": target or TOLD.target.label, "spec": spec.model_dump(), "members": [member]}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_steps_of_this_target_and_body_are_told_by_method(project):
    package = {"name": "mobilenet_v2", "options": {}}
    keep("adapt", "a", arm("scratch", 100), 5.0)
    keep("adapt", "b", arm("scratch", 100), 7.0)
    keep("adapt", "c", arm("scratch", 200), 40.0)
    keep("adapt", "d", arm("fine_tune", 100, body=package), 90.0)
    keep("adapt", "short", arm("scratch", cost_history.TRIAL[-1]), 900.0)
    keep("adapt", "other target", arm("scratch", 100, target="oaks"), 900.0)
    keep(
        "adapt",
        "other size",
        arm("scratch", 100, spec=small.SPEC.model_copy(update={"size": 64})),
        900.0,
    )
    keep("adapt", "wider", arm("scratch", 100, body={**OWN, "options": {"width": 99}}), 900.0)
    assert cost_history.of_arms(TOLD, small.SPEC) == {
        ("scratch", OWN["name"]): Cost(0.0, 0.07),
        ("fine_tune", "mobilenet_v2"): Cost(0.0, 0.9),
    }


def test_bodies_are_told_by_source(project):
    keep("pretrain", "a", {"source": "oaks", "steps": 600, "body": OWN}, 30.0)
    keep("pretrain", "b", {"source": "elms", "steps": 4, "body": OWN}, 30.0)
    assert cost_history.of_bodies(TOLD) == {"oaks": Cost(0.0, 0.05)}


def test_what_is_damaged_or_not_there_is_passed_by(project):
    assert cost_history.of_arms(TOLD, small.SPEC) == {}
    keep("pretrain", "a", {"source": "oaks", "steps": 600, "body": OWN}, 30.0)
    Path("build/pretrain/a/card.json").write_text("{")
    assert cost_history.of_bodies(TOLD) == {}


def test_real_results_are_read(project):
    told = small.settings(adapt={"training": {"steps": 20, "batch_size": 8}})
    into = small.target(told)
    named = told.model_copy(update={"target": told.target.model_copy(update={"name": "small"})})
    made = small.arm(Plan("scratch", (), "scratch"), into, named, [])
    (cost,) = cost_history.of_arms(named, small.SPEC).values()
    assert cost.at(20) == pytest.approx(made.ref.seconds)
