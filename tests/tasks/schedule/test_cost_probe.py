"""How many steps a run can have within its budget, on real data, with a short training as clock."""

import pytest

from tasks.data.split import split_source
from tasks.runtime.artifacts import Divided
from tasks.schedule import cost_history, cost_probe
from tasks.schedule.cost_probe import Bench, scaled, stored, suit
from tasks.schedule.time_budget import Allowance
from tasks.training.cancellation import Stop
from tasks.training.pretrain import pretrain
from tests.tasks import small
from transfer.arms.budget_policy import SHARES, Cost
from transfer.arms.plan import Plan
from transfer.core.errors import SettingsError

PLAN = Plan("scratch", (), "scratch")


def told(budget):
    return small.settings(
        run={"budget": budget},
        adapt={"seeds": [0, 1], "training": {"steps": 64, "batch_size": 8}},
        target={"name": "small"},
    )


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Two datasets, and nothing that was trained on them."""
    monkeypatch.chdir(tmp_path)
    settings = told(None)
    into = small.target(settings)
    found = small.scanned("large", 90, 2)
    part = Divided(found, split_source.fn(found, into, settings.source, 2))
    return Bench({"large": {"large": part}}, into, small.SPEC, 2, small.MACHINE, 2)


def test_all_trainings_have_the_same_share_of_their_steps():
    settings = told(None)
    assert scaled(settings, 1.0) is settings
    for share in SHARES:
        found = scaled(settings, share)
        assert found.adapt.training.steps == 64 * share
        assert found.pretrain.training.steps == round(60 * share)
        same = {"pretrain", "adapt"}
        assert found.model_dump(exclude=same) == settings.model_dump(exclude=same)


def test_steps_are_cut_only_as_far_as_needed_and_below_the_last_share_nothing_is_trained(
    bench, monkeypatch
):
    """A step takes a second: 60 beside 2 x 64 from scratch, 40 for the advisor, 1.5 x 64."""
    monkeypatch.setattr(cost_probe, "_short", lambda train: Cost(0.0, 1.0))
    tail = cost_history.Ending(10.0, 0.0)
    cost_history.note(tail, promote=True)
    times = {share: 128 * share + 40 + 1.5 * 64 * share for share in SHARES}
    for share in SHARES:
        settings = told(f"{int(10 + 2 * times[share] + 5)}s")
        allowance = Allowance(settings, promote=True)
        assert suit.fn(allowance, bench, settings) == scaled(settings, share)
        assert allowance.share == share
    settings = told(f"{int(10 + 2 * times[SHARES[-1]] - 5)}s")
    assert suit.fn(Allowance(settings, promote=True), bench, settings) == scaled(settings, 0.125)
    settings = told(f"{int(10 + 1.15 * times[SHARES[-1]] / 2 - 5)}s")
    with pytest.raises(SettingsError, match="a run takes at least about"):
        suit.fn(Allowance(settings, promote=True), bench, settings)


def test_what_is_stored_takes_no_time(bench, monkeypatch):
    monkeypatch.setattr(cost_probe, "_short", lambda train: Cost(0.0, 1e6))
    monkeypatch.setattr(cost_history, "of_bodies", lambda settings: {"large": Cost(0.0, 1e6)})
    cost_history.note(cost_history.Ending(10.0, 0.0), promote=True)
    settings = scaled(told("60s"), 0.125)
    body = pretrain.fn("large", bench.parts["large"], settings, small.MACHINE, 1, Stop.of_run())
    shared = small.shared(bench.target, settings, [body])
    del shared["sources"]
    for seed in (0, 1):
        for plan, sources in ((PLAN, []), (Plan("fine_tune", ("large",), "fine_tune"), [body])):
            assert not stored(plan, seed, sources, {**shared, "settings": settings})
            small.arm(plan, bench.target, settings, sources, seed)
            assert stored(plan, seed, sources, {**shared, "settings": settings})
    allowance = Allowance(settings, promote=True)
    assert suit.fn(allowance, bench, settings) == settings


def test_short_trainings_tell_what_a_step_costs(bench):
    settings = told("60m")
    allowance = Allowance(settings, promote=True)
    assert suit.fn(allowance, bench, settings) == settings
    assert 0 < allowance.cost(PLAN, 64) < 60
    assert allowance.cost(PLAN, 128) > allowance.cost(PLAN, 64)
    assert allowance.left_out == {}
    for step in ("adapt", "pretrain"):
        assert not list(cost_history.paths.BUILD.glob(f"{step}/*/stored.json"))
