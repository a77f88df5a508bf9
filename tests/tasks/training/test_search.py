"""A search ends with settings that validation finds no worse, and every trial is a stored arm."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.training.arm_files import files
from tasks.training.cancellation import Stop
from tasks.training.search import search
from tests.tasks import small
from transfer.arms.plan import ArmPlan
from transfer.selection import model_selection
from transfer.training.feature_cache import Features

pytest.importorskip("optuna", reason="the extra `search` is not installed")
TRIALS = 2
SETTINGS = small.settings(adapt={**small.settings().adapt.model_dump(), "trials": TRIALS})
PLAN = ArmPlan("fine_tune", ("large",), "fine_tune")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A target and a source in a store of their own."""
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        target = small.target(SETTINGS)
        return folder, target, small.source("large", target, SETTINGS)


@pytest.fixture
def given(made, monkeypatch):
    monkeypatch.chdir(made[0])
    return made[1:]


def searched(given, plan=PLAN):
    target, source = given
    context = small.context(target, SETTINGS)
    return search.fn(plan, 0, [source], context, Stop.of_run(), Features())


def arm(given, plan):
    target, source = given
    return small.arm(plan, target, SETTINGS, [source])


def loss(given, plan):
    return float(model_selection.validation_losses(files([arm(given, plan)])).mean())


def test_what_it_ends_with_is_no_worse_than_the_default_on_validation(given):
    tuned_plan = searched(given)
    assert (tuned_plan.method, tuned_plan.sources, tuned_plan.label) == (
        PLAN.method,
        PLAN.sources,
        PLAN.label,
    )
    assert type(tuned_plan.tuned) is type(SETTINGS.methods.fine_tune)
    assert loss(given, tuned_plan) <= loss(given, PLAN)


def stored_arms():
    return [path for path in Path("build/adapt").iterdir() if (path / "stored.json").exists()]


def test_each_trial_is_a_stored_arm_and_the_best_of_them_is_taken(given):
    tuned_plan = searched(given)
    assert len(stored_arms()) == TRIALS + 1
    untuned = arm(given, PLAN)
    tried = [replace(untuned, ref=replace(untuned.ref, path=path)) for path in stored_arms()]
    losses = model_selection.validation_losses(files(tried)).mean(1).tolist()
    assert loss(given, tuned_plan) == pytest.approx(min(losses)) and len(set(losses)) == TRIALS + 1
    assert arm(given, tuned_plan).ref.reused and arm(given, PLAN).ref.reused


def test_the_same_search_finds_the_same_and_trains_nothing_again(given):
    first = searched(given)
    before = {path: (path / "stored.json").stat().st_mtime_ns for path in stored_arms()}
    assert searched(given) == first
    assert {path: (path / "stored.json").stat().st_mtime_ns for path in stored_arms()} == before


def test_the_log_tells_both_losses(given, caplog):
    with caplog.at_level(logging.INFO, logger="crosstrain"):
        tuned_plan = searched(given)
    (message,) = [line for line in caplog.messages if "validation loss" in line]
    wanted = f"validation loss {loss(given, PLAN):.4f} to {loss(given, tuned_plan):.4f} with"
    assert message.startswith(f"fine_tune: {wanted} learning_rate")
