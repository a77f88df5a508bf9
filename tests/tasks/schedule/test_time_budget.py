"""When trainings have to end, how many steps they get, and what is reported when there is
too little time."""

import time
from dataclasses import replace

import pytest

from tasks.data.split import split_source
from tasks.runtime import command_start
from tasks.runtime.artifacts import Divided, TrainedArms
from tasks.runtime.run_context import TimeLimit
from tasks.runtime.step import Stopwatch
from tasks.schedule import cost_history, cost_probe, time_budget
from tasks.schedule.cost_history import Overhead
from tasks.schedule.time_budget import SAFETY, begin, deadline, fit_steps, is_stored, scaled
from tasks.schedule.training_plan import Costs, TrainingPlan
from tasks.training.adapt import ArmJob
from tasks.training.cancellation import Stop
from tasks.training.pretrain import pretrain
from tests.tasks import small
from transfer.arms.budget_policy import SHARES
from transfer.arms.plan import ArmPlan
from transfer.core.errors import SettingsError

NOW = 1_000_000.0
SCRATCH = ArmPlan("scratch", (), "scratch")
STEPS = 64
AFTER = Overhead(10.0, 0.0)


@pytest.fixture
def now(monkeypatch, tmp_path):
    """Set the clock, in an empty project."""
    monkeypatch.chdir(tmp_path)
    clock = [NOW]
    monkeypatch.setattr("time.time", lambda: clock[0])
    return lambda seconds: clock.__setitem__(0, NOW + seconds)


def settings(budget="2m", **changes):
    return small.settings(
        run={"budget": budget},
        adapt={"seeds": [0, 1], "training": {"steps": STEPS, "batch_size": 8}},
        target={"name": "small"},
        **changes,
    )


# the clock


def test_the_end_of_the_run_and_of_each_arm_is_held_back(now):
    limit = begin(settings(), True)
    assert deadline(limit, Overhead(20.0, 0.5), 10) == NOW + 120 - 20 - 5
    late = deadline(limit, Overhead(20.0, 0.5), 10, needed=True)
    assert late == NOW + 120 - 20 - 5 + 0.05 * 120


def test_the_clock_of_a_command_is_older_than_its_run_and_counts_for_one_run(now):
    command_start.begin()
    now(8)
    assert begin(settings(), True).spent() == 8
    assert begin(settings(), True).spent() == 0


@pytest.mark.parametrize("budget", ["1s", "10s"])
def test_a_budget_below_the_end_of_a_run_is_refused_at_once(now, budget):
    with pytest.raises(SettingsError, match=r"run.budget is \d+.0 s, and to evaluate, .* nothing"):
        begin(settings(budget), True)


def test_the_slowest_of_the_last_ends_is_expected(now):
    for base in (50.0, 20.0, 30.0, 10.0):
        cost_history.note(Overhead(base, 0.1), promote=True)
    with pytest.raises(SettingsError, match=r"takes about 30\.0 s here"):
        begin(settings("25s"), True)
    assert begin(settings("25s"), False).left() == 25


# steps


@pytest.fixture
def context(tmp_path, monkeypatch):
    """Two datasets, and nothing that was trained on them; a step takes a second: what a decision
    needs is 60 of pretraining beside 64 from scratch, then 64 of an arm that transfers."""
    monkeypatch.chdir(tmp_path)
    given = settings(None)
    into = small.target(given)
    large = small.scanned("large", 90, 2)
    part = Divided(large, split_source.fn(large, into, given.source, 2))
    costs = Costs(AFTER, 1.0, {("scratch", given.backbone.name): 1.0})
    monkeypatch.setattr(cost_probe, "measure", lambda context, promote: costs)
    return small.context(into, given, {"large": part}, at_once=2)


def fitted(context, seconds):
    """The plan of a run that may still take so many seconds."""
    limited = replace(context, time_limit=TimeLimit(time.time(), seconds))
    return fit_steps.fn(limited, (SCRATCH,), True)


def test_all_trainings_have_the_same_share_of_their_steps():
    given = settings(None)
    assert scaled(given, 1.0) == given
    for share in SHARES:
        cut = scaled(given, share)
        assert cut.adapt.training.steps == STEPS * share
        assert cut.pretrain.training.steps == round(60 * share)
        same = {"pretrain", "adapt"}
        assert cut.model_dump(exclude=same) == given.model_dump(exclude=same)


def test_steps_are_cut_only_as_far_as_needed_and_below_the_last_share_nothing_is_trained(context):
    def seconds(share):
        return (64 + 64) * share

    for share in SHARES:
        plan = fitted(context, 10 + SAFETY * seconds(share) + 2)
        assert (plan.share, plan.settings) == (share, scaled(context.settings, share))
    floor = SHARES[-1]
    assert fitted(context, 10 + seconds(floor) + 2).share == floor
    with pytest.raises(SettingsError, match="a run takes at least about") as refused:
        fitted(context, 10 + seconds(floor) - 2)
    assert "for one pretraining, one arm from scratch and one that uses a source" in str(
        refused.value
    )


def test_a_refusal_names_a_budget_that_would_do(context, now):
    now(15)
    limited = replace(context, time_limit=TimeLimit(NOW, 30.0))
    with pytest.raises(SettingsError) as refused:
        fit_steps.fn(limited, (SCRATCH,), True)
    assert "run.budget is 30.0 s, and a run takes at least about 50.0 s here" in str(refused.value)
    enough = replace(context, time_limit=TimeLimit(NOW, 50.0))
    assert fit_steps.fn(enough, (SCRATCH,), True).share == SHARES[-1]


def test_a_single_worker_has_one_training_after_the_other(context):
    alone = replace(context, arms_at_once=1)
    assert fitted(context, 10 + SAFETY * 128 + 2).share == 1.0
    assert fitted(alone, 10 + SAFETY * 128 + 2).share == 0.5
    assert fitted(alone, 10 + SAFETY * 188 + 2).share == 1.0


def test_what_is_stored_takes_no_time(context):
    short = replace(context, settings=scaled(context.settings, 0.125))
    source = pretrain.fn("large", short, 1, Stop.of_run())
    for plan, sources in (
        (SCRATCH, []),
        (ArmPlan("fine_tune", ("large",), "fine_tune"), [source]),
    ):
        job = ArmJob.of(plan, 0, sources)
        assert not is_stored(job, short)
        small.arm(plan, context.target, short.settings, sources)
        assert is_stored(job, short)
        assert not is_stored(replace(job, seed=1), short)
    assert fitted(context, 12).share == 0.125
    with pytest.raises(SettingsError):
        fitted(replace(context, settings=settings(None, augment={"rotate": 1.0})), 12)


# what is reported and stored


def trained(arms=(), left_out=None):
    return TrainedArms([], None, list(arms), left_out or {}, ended=NOW)


def test_what_was_left_out_is_reported_with_the_reason(context, now):
    now(40)
    limited = replace(context, time_limit=TimeLimit(NOW, 120.0))
    gone = {"l2_sp/1": "no time", "l2_sp/2": "no time"}
    budget = time_budget.report(TrainingPlan(limited, (), share=0.5), trained(left_out=gone))
    assert budget.left_out == gone
    assert (budget.seconds, budget.spent, budget.share, budget.ran_out) == (120, 40, 0.5, True)


def test_without_a_budget_there_is_nothing_to_report(context):
    assert time_budget.report(TrainingPlan(context, ()), trained()) is None


def test_how_a_run_ended_is_remembered_unless_its_evaluation_was_stored(now):
    arms, watch, given = trained([None] * 12), Stopwatch(), settings(None)
    watch.add("evaluate", 0.0, 6.0, reused=False)
    now(26)
    time_budget.remember(arms, watch, given, True)
    assert cost_history.overheads(True) == [Overhead(20.0, 0.5)]
    waits = settings(None, promote={"approval": True})
    now(90000)
    time_budget.remember(arms, watch, waits, True)
    again = Stopwatch()
    again.add("evaluate", 0.0, 0.1, reused=True)
    time_budget.remember(arms, again, given, True)
    assert len(cost_history.overheads(True)) == 1
