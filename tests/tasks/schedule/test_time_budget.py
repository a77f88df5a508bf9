"""How much time is left, what arms are taken to cost, and what is said when there is too little."""

import pytest

from tasks.runtime import command_start
from tasks.runtime.artifacts import ArmRef, Ref
from tasks.runtime.step import Stopwatch
from tasks.schedule import cost_history
from tasks.schedule import time_budget as module
from tasks.schedule.cost_history import Ending
from tasks.schedule.time_budget import Allowance
from transfer.arms.budget_policy import Cost
from transfer.arms.plan import ArmPlan
from transfer.core.errors import SettingsError
from transfer.settings.project import Settings

NOW = 1_000_000.0
SCRATCH = ArmPlan("scratch", (), "scratch")
TUNE = ArmPlan("fine_tune", ("oaks",), "fine_tune")
PROBE = ArmPlan("linear_probe", ("efficientnet_lite0",), "linear_probe/efficientnet_lite0")


@pytest.fixture
def now(monkeypatch, tmp_path):
    """Set the clock, in an empty project."""
    monkeypatch.chdir(tmp_path)
    told = [NOW]
    monkeypatch.setattr("time.time", lambda: told[0])
    return lambda seconds: told.__setitem__(0, NOW + seconds)


def settings(budget="2m"):
    return Settings.model_validate(
        {"run": {"budget": budget}, "pretrained": ["efficientnet_lite0"]}
    )


def made(budget="2m", promote=True):
    return Allowance(settings(budget), promote)


def test_the_end_of_the_run_and_of_each_arm_is_held_back(now):
    cost_history.note(Ending(20.0, 0.5), promote=True)
    found = made()
    assert found.until(10) == NOW + 120 - 20 - 5
    now(30)
    assert found.left(10) == 120 - 20 - 5 - 30
    assert found.until(10, needed=True) == found.until(10) + 0.05 * 120


def test_the_clock_of_a_command_is_older_than_its_run_and_counts_for_one_run(now):
    command_start.begin()
    now(8)
    assert made().spent() == 8
    assert made().spent() == 0


def test_without_a_budget_there_is_for_ever_and_nothing_to_tell(now):
    found = made(None)
    assert not found.limited
    assert found.left(1000) == float("inf")
    assert found.told() is None


def test_the_slowest_of_the_last_ends_is_expected(now):
    for base in (50.0, 20.0, 30.0, 10.0):
        cost_history.note(Ending(base, 0.1), promote=True)
    cost_history.note(Ending(70.0, 0.1), promote=False)
    assert made().until(0) == NOW + 120 - 30
    assert made(promote=False).until(0) == NOW + 120 - 70


def test_a_machine_that_was_slow_to_begin_is_expected_to_be_slow_to_end(now):
    found = made()
    now(50)
    found.arrive()
    assert found.until(0) == NOW + 120 - module.AS_BEFORE * 50
    command_start.begin()
    now(90)
    late = made()
    late.arrive()
    assert late.until(0) == NOW + 50 + 120 - module.AS_STARTED * 40
    cost_history.note(Ending(5.0, 0.0), promote=True)
    known = made()
    known.arrive()
    assert known.until(0) == NOW + 90 + 120 - 5


def test_an_arm_costs_what_its_kind_did_or_more_than_scratch_where_none_was(now):
    found = made()
    found.learn({("scratch", "resnet"): Cost(1.0, 0.1), ("fine_tune", "resnet"): Cost(0.0, 0.2)})
    assert found.cost(SCRATCH, 100) == 11
    assert found.cost(TUNE, 100) == 20
    assert found.cost(PROBE, 100) == module.UNKNOWN * 11
    assert found.cost(ArmPlan("lda", ("oaks",), "lda"), 100) == module.FROZEN * 11
    arm = ArmRef(PROBE, 0, 100, Ref(module.pace.paths.BUILD, "d", 50.0, reused=False))
    found.observe(arm, 100)
    assert found.cost(PROBE, 200) == 100
    assert found.until(0) == NOW + 120 - module.USUAL.base


@pytest.mark.parametrize(("took", "slow"), [(2.0, 1.0), (10.0, 1.0), (15.0, 1.5), (99.0, 3.0)])
def test_where_arms_take_longer_than_expected_so_will_the_end(now, took, slow):
    cost_history.note(Ending(20.0, 0.5), promote=True)
    found = made()
    found.learn({("scratch", "resnet"): Cost(0.0, 0.1)})
    for seed in range(3):
        arm = ArmRef(SCRATCH, seed, 100, Ref(cost_history.paths.BUILD, "d", took, reused=seed == 2))
        found.observe(arm, 100)
    assert found.until(4) == NOW + 120 - slow * 22
    assert found.each == slow * 0.5


@pytest.mark.parametrize("budget", ["1s", "10s"])
def test_a_budget_below_the_end_of_a_run_is_refused_at_once(now, budget):
    with pytest.raises(SettingsError, match=r"run.budget is \d+.0 s, and to evaluate, .* nothing"):
        made(budget)


def test_a_refusal_names_a_budget_that_would_do(now):
    cost_history.note(Ending(20.0, 0.5), promote=True)
    found = made("60s")
    now(15)
    told = str(found.refusal(38.0))
    assert "run.budget is 60.0 s, and a run takes at least about 80.0 s here" in told
    least = made("80s")
    assert least.began + 80 - NOW - 15 >= 38.0 + 20 + 4 * 0.5


def test_what_was_left_out_is_told_with_the_reason(now):
    found = made()
    found.leave_out(["l2_sp/1", "l2_sp/2"], "no time")
    found.leave_out([], "never")
    found.share = 0.5
    now(40)
    told = found.told()
    assert told.left_out == {"l2_sp/1": "no time", "l2_sp/2": "no time"}
    assert (told.seconds, told.spent, told.share, told.ran_out) == (120, 40, 0.5, True)


def test_how_a_run_ended_is_remembered_unless_its_evaluation_was_stored(now):
    found, watch = made(None), Stopwatch()
    found.trained()
    watch.add("evaluate", 0.0, 6.0, reused=False)
    now(26)
    found.close(watch, 12)
    assert cost_history.endings(True) == [Ending(20.0, 0.5)]
    asks = {"promote": {"approval": True}}
    waiting = Allowance(Settings.model_validate(asks), promote=True)
    waiting.trained()
    now(90000)
    waiting.close(watch, 12)
    again = Stopwatch()
    again.add("evaluate", 0.0, 0.1, reused=True)
    found.close(again, 12)
    assert len(cost_history.endings(True)) == 1


@pytest.mark.parametrize("text", ["", "[]", '{"promoted": 3}', '{"promoted": [["a", 1]]}'])
def test_a_damaged_memory_is_no_memory(now, text):
    cost_history.paths.BUILD.mkdir()
    (cost_history.paths.BUILD / "pace.json").write_text(text)
    assert cost_history.endings(True) == []
    cost_history.note(Ending(1.0, 2.0), promote=True)
    assert cost_history.endings(True) == [Ending(1.0, 2.0)]
