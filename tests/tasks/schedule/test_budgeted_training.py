"""Arms are started while they are expected to end in time: with a clock and an engine that are
simulated, so that every order and every cost can be tried."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.runtime.artifacts import ArmRef, Ref, Source
from tasks.runtime.run_context import TimeLimit
from tasks.schedule import budgeted_training
from tasks.schedule import plan as planning
from tasks.schedule.budgeted_training import _BudgetedTraining, train_within
from tasks.schedule.cost_history import Overhead
from tasks.schedule.training_plan import Costs, TrainingPlan
from tests.tasks.runtime.test_run_context import context as make_context
from transfer.arms.plan import ArmPlan
from transfer.core.errors import CrosstrainError

NOW = 1_000_000.0
STEPS = 10
SCRATCH = ArmPlan("scratch", (), "scratch")
HELPED = [
    ArmPlan(name, ("oaks",), name) for name in ("fine_tune", "linear_probe", "l2_sp", "lp_ft")
]
AFTER = Overhead(10.0, 1.0)


def source(name):
    return Source(name, Ref(Path(name), name, 1.0, reused=False), None)


@dataclass(eq=False)
class Future:
    """A training that is under way."""

    ends: float
    result: object


class Engine:
    """Runs trainings on a simulated clock: each takes its given time."""

    def __init__(self, seconds, workers=2):
        self.clock, self.seconds, self.workers = NOW, seconds, workers
        self.free, self.started = [NOW] * workers, []
        self.runner, self.searches = SimpleNamespace(result=lambda future: future.result), False

    def _run(self, name, until, result):
        start = max(self.clock, self.free.pop(self.free.index(min(self.free))))
        end = min(start + self.seconds(name), max(start, until))
        self.free.append(end)
        return Future(end, result if start + self.seconds(name) <= until else None)

    def pretrain(self, name, beside, until):
        return self._run(name, until, source(name))

    def arm(self, plan, seed, sources, until):
        self.started.append((plan.label, seed))
        ref = Ref(Path("build/x"), "d", self.seconds(plan.label), reused=False)
        return self._run(plan.label, until, ArmRef(plan, seed, STEPS, ref))

    def unpack(self):
        return []

    def first_done(self, futures):
        future = min(futures, key=lambda training: training.ends)
        self.clock = max(self.clock, future.ends)
        return future

    def done(self, futures):
        self.clock = max([self.clock, *(training.ends for training in futures)])
        return [training.result for training in futures]


@cache
def with_sources(sources):
    return make_context(sources, adapt={"seeds": [0, 1, 2], "training": {"steps": STEPS}})


def plan_of(budget, costs, *, sources=("oaks",), workers=2):
    made = replace(with_sources(sources), arms_at_once=workers, time_limit=TimeLimit(NOW, budget))
    steps = {(name, "resnet"): seconds / STEPS for name, seconds in costs.items()}
    return TrainingPlan(made, (SCRATCH,), 1.0, Costs(AFTER, 0.0, steps))


@pytest.fixture(autouse=True)
def simulated(monkeypatch):
    """Nothing is stored, and the advisor and the plans need no data."""
    monkeypatch.setattr(budgeted_training, "is_stored", lambda job, context: False)
    monkeypatch.setattr(budgeted_training, "advise", lambda *given: None)
    monkeypatch.setattr(budgeted_training, "load", lambda advice: [])
    monkeypatch.setattr(budgeted_training, "promising", lambda sources, advice, keep: sources)
    monkeypatch.setattr(planning, "plans", lambda settings, target, sources: HELPED)
    monkeypatch.setattr(planning, "_last_validation", lambda settings: {})
    monkeypatch.setattr(
        planning, "by_validation", lambda firsts, settings: [arm.plan.label for arm in firsts]
    )


def run(plan, engine, monkeypatch):
    """Train within the budget of a plan."""
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: engine.clock)
        return train_within(plan, plan.costs, engine)


ALL = {(plan.label, seed) for plan in (SCRATCH, *HELPED) for seed in (0, 1, 2)}
COST = {"scratch": 10.0, "oaks": 20.0, **{plan.label: 10.0 for plan in HELPED}}


def test_what_has_time_is_all_trained(monkeypatch):
    engine = Engine(COST.__getitem__)
    made = run(plan_of(1000, COST), engine, monkeypatch)
    assert {(arm.plan.label, arm.seed) for arm in made.arms} == ALL
    assert made.left_out == {} and sorted(engine.started) == sorted(ALL)


def test_what_a_decision_needs_comes_first_then_a_second_seed_then_the_others(monkeypatch):
    engine = Engine(COST.__getitem__)
    run(plan_of(1000, COST), engine, monkeypatch)
    assert engine.started[:8] == [
        ("scratch", 0),
        ("scratch", 1),  # beside the pretraining, which is still under way
        ("fine_tune", 0),
        ("fine_tune", 1),
        ("linear_probe", 0),
        ("l2_sp", 0),
        ("lp_ft", 0),
        ("scratch", 2),
    ]


@pytest.mark.parametrize("budget", range(45, 150, 5))
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_with_known_costs_the_last_arm_ends_in_time_and_arms_are_fair(budget, workers, monkeypatch):
    engine = Engine(COST.__getitem__, workers)
    try:
        made = run(plan_of(budget, COST, workers=workers), engine, monkeypatch)
    except CrosstrainError:
        assert budget < (20 if workers > 1 else 30) + 10 + 10 + AFTER.seconds(2)
        return
    assert engine.clock <= NOW + 1.05 * budget - AFTER.seconds(2)
    assert engine.clock <= NOW + 1.05 * budget - AFTER.seconds(len(made.arms)) + 1
    seeds = {}
    for arm in made.arms:
        if arm.finalist:
            seeds.setdefault(arm.plan.label, set()).add(arm.seed)
    assert len(seeds) > 1 and all(arm_seeds == seeds["scratch"] for arm_seeds in seeds.values())
    kept = {f"{arm.plan.label}/{arm.seed}" for arm in made.arms}
    assert kept | set(made.left_out) == {f"{label}/{seed}" for label, seed in ALL}


SECONDS = st.fixed_dictionaries({name: st.floats(0.1, 30) for name in COST})


@given(SECONDS, st.integers(1, 4), st.floats(0, 200), st.floats(0, 100))
def test_more_time_only_adds_arms_and_what_is_started_ends_in_time(costs, workers, some, more):
    def trained(seconds):
        engine = Engine(costs.__getitem__, workers)
        plan = plan_of(seconds, costs, workers=workers)
        training = _BudgetedTraining(plan, plan.costs, engine)
        training.sources = [source("oaks")]
        training.plans |= {group.label: group for group in HELPED}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.time", lambda: engine.clock)
            training._train(sorted(ALL))
        assert not training.done or engine.clock <= NOW + seconds - AFTER.base + 1e-6
        assert set(training.done) == set(engine.started)
        return engine.started

    few, many = trained(some), trained(some + more)
    assert many[: len(few)] == few


def test_an_arm_that_takes_longer_than_expected_is_ended_and_left_out(monkeypatch):
    slow = {**COST, "l2_sp": 500.0}
    made = run(plan_of(120, COST), Engine(slow.__getitem__), monkeypatch)
    assert made.left_out["l2_sp/0"] == "no time"
    assert {arm.plan.label for arm in made.arms if arm.finalist} >= {"scratch", "fine_tune"}


def test_where_arms_take_longer_than_expected_so_will_the_end(monkeypatch):
    """All take twice as long: twice as much is held back for what comes after them."""
    engine = Engine(lambda name: 2 * COST[name])
    made = run(plan_of(150, COST), engine, monkeypatch)
    assert engine.clock <= NOW + 150 - 2 * AFTER.seconds(len(made.arms))
    assert made.left_out


def test_without_an_arm_of_both_in_time_there_is_no_challenger(monkeypatch):
    slow = {**COST, "fine_tune": 500.0}
    with pytest.raises(CrosstrainError, match="What was trained is kept: run it again"):
        run(plan_of(60, COST), Engine(slow.__getitem__), monkeypatch)
    with pytest.raises(CrosstrainError, match="the champion stays"):
        run(plan_of(60, COST), Engine({**COST, "oaks": 500.0}.__getitem__), monkeypatch)


def test_a_further_source_has_half_of_the_time_and_is_left_out_when_that_is_up(monkeypatch):
    slow = {**COST, "elms": 500.0}
    plan = plan_of(200, COST, sources=("oaks", "elms"))
    made = run(plan, Engine(slow.__getitem__), monkeypatch)
    assert [source.name for source in made.sources] == ["oaks"]
    assert made.left_out["elms"] == "no time to pretrain on it"


def test_an_engine_that_searches_has_no_time_for_it(monkeypatch):
    engine = Engine(COST.__getitem__)
    engine.searches = True
    assert "search of settings" in run(plan_of(1000, COST), engine, monkeypatch).left_out
