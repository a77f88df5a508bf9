"""Search the settings of a method by the validation loss of an additional seed."""

import math
from collections.abc import Sequence
from dataclasses import replace

from tasks.runtime.artifacts import Source
from tasks.runtime.run_context import RunContext
from tasks.runtime.step import log, step
from tasks.training.adapt import ArmJob, adapt
from tasks.training.arm_files import files
from tasks.training.cancellation import Stop
from transfer.arms import hyperparameter_search as library
from transfer.arms.plan import ArmPlan
from transfer.core.errors import CrosstrainError
from transfer.selection import model_selection
from transfer.training.feature_cache import Features
from transfer.training.method import Method


@step("search", tags=["train"])
def search(
    plan: ArmPlan,
    seed: int,
    sources: Sequence[Source],
    context: RunContext,
    stop: Stop,
    features: Features,
) -> ArmPlan:
    """Return the plan with the settings of lowest out-of-fold log loss.

    Every trial is a separate arm, and stored as an arm.

    Args:
        plan: the group of arms.
        seed: of the arms that are tried.
        sources: at least those that the plan names.
        context: what all arms of the run share; its settings say how many trials, and where the
            search begins.
        stop: when set, the trial that is being trained stops at its next step.
        features: of frozen backbones, shared by the arms of a run.

    Raises:
        Stopped: ``stop`` was set.
    """
    settings = context.settings

    def loss(method: Method) -> float:
        job = ArmJob.of(replace(plan, tuned=method), seed, sources)
        try:
            tried = adapt.fn(job, context, stop, features)
        except CrosstrainError as error:  # settings with which training fails are the worst
            log.info("%s: %s", plan.label, error)
            return math.inf
        return float(model_selection.validation_losses(files([tried])).mean())

    begin: Method = getattr(settings.methods, plan.method)
    best = library.search(begin, loss, trials=settings.adapt.trials)
    values = ", ".join(f"{name} {getattr(best.method, name):.3g}" for name in library.space(begin))
    log.info(
        "%s: validation loss %.4f to %.4f with %s",
        plan.label,
        best.default_loss,
        best.loss,
        values,
    )
    return replace(plan, tuned=best.method)
