"""What trainings are expected to cost, and what arms that were trained add to that."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.runtime.artifacts import ArmRef, Ref
from tasks.schedule.cost_history import Overhead
from tasks.schedule.training_plan import Costs
from transfer.arms.plan import ArmPlan
from transfer.settings.project import Settings

SETTINGS = Settings.model_validate(
    {"pretrained": ["efficientnet_lite0"], "adapt": {"training": {"steps": 100}}}
)
SCRATCH = ArmPlan("scratch", (), "scratch")
TUNE = ArmPlan("fine_tune", ("oaks",), "fine_tune")
PACKAGE = ArmPlan("fine_tune", ("efficientnet_lite0",), "fine_tune/efficientnet_lite0")
KNOWN = {("scratch", "resnet"): 0.1, ("fine_tune", "resnet"): 0.2}
COSTS = Costs(Overhead(10.0, 0.5), 0.05, KNOWN)


def arm(plan, seconds, *, reused=False):
    return ArmRef(plan, 0, 100, Ref(Path("build/x"), "d", seconds, reused=reused))


def test_a_training_costs_its_steps():
    assert COSTS.pretraining(SETTINGS) == pytest.approx(0.05 * SETTINGS.pretrain.training.steps)
    assert COSTS.arm(SCRATCH, SETTINGS) == pytest.approx(10)
    assert COSTS.arm(TUNE, SETTINGS) == pytest.approx(20)


def test_a_kind_that_was_never_trained_here_costs_what_scratch_does():
    assert COSTS.arm(PACKAGE, SETTINGS) == pytest.approx(10)
    assert COSTS.arm(ArmPlan("lda", ("oaks",), "lda"), SETTINGS) == pytest.approx(10)


def test_an_arm_tells_what_its_kind_costs():
    costs = COSTS.observed(arm(PACKAGE, 50.0), SETTINGS)
    assert costs.arm(PACKAGE, SETTINGS) == pytest.approx(50)
    assert costs.arm(TUNE, SETTINGS) == pytest.approx(20)
    assert COSTS.observed(arm(TUNE, 30.0), SETTINGS).arm(TUNE, SETTINGS) == pytest.approx(30)


def test_what_is_stored_or_went_on_from_a_checkpoint_lowers_no_expectation():
    assert COSTS.observed(arm(TUNE, 90.0, reused=True), SETTINGS) == COSTS
    assert COSTS.observed(arm(TUNE, 3.0), SETTINGS) == COSTS
    assert replace(COSTS, arm_steps=dict(KNOWN)) == COSTS
