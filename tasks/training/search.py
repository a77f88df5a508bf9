"""Search the settings of a method on the validation loss of a seed of its own."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tasks.runtime.step import log, step
from tasks.training.adapt import adapt
from tasks.training.arm_files import files
from transfer.arms import hyperparameter_search as library
from transfer.arms.plan import Plan
from transfer.core.errors import CrosstrainError
from transfer.selection import model_selection
from transfer.settings.project import Settings
from transfer.training.method import Method


@step("search", tags=["train"])
def search(plan: Plan, seed: int, settings: Settings, arm: dict[str, Any]) -> Plan:
    """Return the plan with the settings of lowest out-of-fold log loss.

    Every trial is an arm of its own, stored as such.

    Args:
        plan: the group of arms.
        seed: of the arms that are tried.
        settings: how many trials, and where they begin.
        arm: the other arguments of an arm.
    """
    begin: Method = getattr(settings.methods, plan.method)
    found = library.search(begin, _loss(plan, seed, settings, arm), trials=settings.adapt.trials)
    told = ", ".join(f"{name} {getattr(found.method, name):.3g}" for name in library.space(begin))
    log.info(
        "%s: validation loss %.4f to %.4f with %s",
        plan.label,
        found.default_loss,
        found.loss,
        told,
    )
    return replace(plan, tuned=found.method)


def _loss(
    plan: Plan, seed: int, settings: Settings, arm: dict[str, Any]
) -> Callable[[Method], float]:
    def loss(method: Method) -> float:
        try:
            tried = adapt.fn(replace(plan, tuned=method), seed, settings=settings, **arm)
        except CrosstrainError as error:  # such settings are no better than any
            log.info("%s: %s", plan.label, error)
            return math.inf
        return float(model_selection.validation_losses(files([tried])).mean())

    return loss
