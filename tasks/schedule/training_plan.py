"""What a run is going to train, once the number of steps that fit is decided."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tasks.runtime.artifacts import ArmRef
from tasks.runtime.run_context import RunContext
from tasks.schedule.cost_history import Kind, Overhead
from transfer.arms.plan import ArmPlan
from transfer.settings.project import Settings


@dataclass(frozen=True)
class Costs:
    """Seconds that trainings, and the rest of the run, are expected to take on this machine."""

    overhead: Overhead
    """Of what comes after the trainings."""
    pretraining_step: float
    """Of one step of a pretraining."""
    arm_steps: Mapping[Kind, float]
    """Of one step of an arm, in all its folds together; at least that of training from scratch."""

    def pretraining(self, settings: Settings) -> float:
        """Seconds of a pretraining."""
        return self.pretraining_step * settings.pretrain.training.steps

    def arm(self, plan: ArmPlan, settings: Settings) -> float:
        """Seconds of an arm; those of training from scratch if its kind was never trained here."""
        scratch = self.arm_steps["scratch", settings.backbone.name]
        return self.arm_steps.get(_kind(plan, settings), scratch) * settings.adapt.training.steps

    def observed(self, arm: ArmRef, settings: Settings) -> "Costs":
        """With the time that an arm took in this run, unless it was stored. Expected times
        only rise: an arm that continued from a checkpoint took less than a whole arm."""
        if arm.ref.reused:
            return self
        kind, step = _kind(arm.plan, settings), arm.ref.seconds / settings.adapt.training.steps
        return replace(
            self, arm_steps={**self.arm_steps, kind: max(step, self.arm_steps.get(kind, 0.0))}
        )


def _kind(plan: ArmPlan, settings: Settings) -> Kind:
    packages = [name for name in plan.sources if name in settings.pretrained]
    return plan.method, packages[0] if packages else settings.backbone.name


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained, and with how many steps."""

    context: RunContext
    """Its settings have the steps that each training gets."""
    alone: tuple[ArmPlan, ...]
    """The groups of arms that use no source."""
    share: float = 1.0
    """Of the steps that the settings ask for, the same for every training."""
    costs: Costs | None = None
    """None in a run without a time budget."""

    @property
    def settings(self) -> Settings:
        """The settings with which the trainings run."""
        return self.context.settings
