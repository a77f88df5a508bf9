"""What trainings cost where no stored result says so: the first seconds of the real ones."""

import shutil
import time
from dataclasses import replace

import pytest

from tasks.data.split import split_source
from tasks.runtime.artifacts import Divided
from tasks.runtime.run_context import TimeLimit
from tasks.schedule import cost_history, cost_probe
from tasks.schedule.cost_history import Overhead
from tasks.training.cancellation import Stop
from tasks.training.pretrain import pretrain
from tests.tasks import small
from transfer.arms.plan import ArmPlan

OWN = ("scratch", "resnet")
SCRATCH = ArmPlan("scratch", (), "scratch")


@pytest.fixture
def context(tmp_path, monkeypatch):
    """Two datasets, and nothing that was trained on them."""
    monkeypatch.chdir(tmp_path)
    settings = small.settings(
        adapt={"seeds": [0, 1], "training": {"steps": 64, "batch_size": 8}},
        target={"name": "small"},
    )
    into = small.target(settings)
    measured = small.scanned("large", 90, 2)
    part = Divided(measured, split_source.fn(measured, into, settings.source, 2))
    return small.context(into, settings, {"large": part}, at_once=2)


def kept(step, pattern):
    return list(cost_history.paths.BUILD.glob(f"{step}/{pattern}"))


def test_the_first_steps_of_the_real_trainings_are_timed_and_kept(context, monkeypatch):
    whole = small.arm(SCRATCH, context.target, context.settings, [])
    shutil.rmtree(whole.ref.path)
    monkeypatch.setattr(cost_probe, "PROBE_SECONDS", 0.0)
    costs = cost_probe.measure(context, promote=True)
    assert 0 < costs.pretraining_step < 60 and 0 < costs.arm_steps[OWN] < 60
    assert kept("partial/pretrain", "*") and kept("partial/adapt", "*")
    assert not kept("stop", "*")
    again = small.arm(SCRATCH, context.target, context.settings, [])
    assert again.ref.digest == whole.ref.digest


def test_a_training_that_ends_while_it_is_timed_is_stored_and_then_asked(context, monkeypatch):
    monkeypatch.setattr(cost_probe, "PROBE_SECONDS", 600.0)
    first = cost_probe.measure(context, promote=True)
    assert pretrain.fn("large", context, 1, Stop.of_run()).knowledge.reused
    assert len(kept("adapt", "*/stored.json")) == 1
    monkeypatch.setattr(cost_probe, "_timed", None)
    again = cost_probe.measure(context, promote=True)
    assert set(again.arm_steps) == set(first.arm_steps) == {OWN}


def test_seconds_of_a_step_are_those_of_all_folds(monkeypatch):
    """Two steps a second in each of three folds."""
    clock = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def train(stop, on_step):
        clock[0] += 5.0  # reads its data
        for done in range(1, 7):
            clock[0] += 0.5
            on_step(done, 300)

    assert cost_probe._timed(train, 100) == pytest.approx(0.5 * 3)


def test_a_training_of_one_step_costs_all_its_time(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def train(stop, on_step):
        clock[0] += 5.0
        on_step(1, 1)

    assert cost_probe._timed(train, 1) == pytest.approx(5.0)


def test_a_machine_that_was_slow_to_start_is_expected_to_be_slow_to_end(context, monkeypatch):
    monkeypatch.setattr(cost_probe, "_timed", lambda train, steps: 0.1)
    slow = replace(context, time_limit=TimeLimit(time.time() - 50, 900.0))
    fast = cost_probe.measure(context, promote=True).overhead
    assert fast.base == cost_probe.UNKNOWN_OVERHEAD
    measured = cost_probe.measure(slow, promote=True).overhead
    assert measured.base == pytest.approx(50, abs=5) and measured.per_arm > 0
    assert cost_probe.measure(context, promote=True).overhead == measured  # though this one is fast
    for base in (5.0, 7.0, 6.0):
        cost_history.note(Overhead(base, 0.2), promote=True)
    assert cost_probe.measure(slow, promote=True).overhead == Overhead(7.0, 0.2)


def test_without_labels_an_arm_is_expected_to_step_as_a_pretraining_does(context, monkeypatch):
    monkeypatch.setattr(cost_probe, "_timed", lambda train, steps: 0.1)
    settings = small.settings(target={"labels_per_class": 0})
    blind = replace(context, settings=settings, folds=0)
    assert cost_probe.measure(blind, promote=True).arm_steps == {OWN: 0.1}
