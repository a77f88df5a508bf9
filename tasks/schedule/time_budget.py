"""A run with a time budget: when its trainings have to end, and how many steps they get."""

import math
import time
from dataclasses import replace
from typing import Any

from tasks.runtime import command_start
from tasks.runtime.artifacts import TrainedArms
from tasks.runtime.formatting import duration
from tasks.runtime.run_context import RunContext, TimeLimit
from tasks.runtime.step import Stopwatch, log, step
from tasks.schedule import cost_history, cost_probe
from tasks.schedule.cost_history import Overhead
from tasks.schedule.plan import is_baseline, likely
from tasks.schedule.training_plan import Costs, TrainingPlan
from tasks.store import content_store
from tasks.training import adapt, pretrain
from tasks.training.adapt import ArmJob
from transfer.arms.budget_policy import SHARES
from transfer.arms.plan import ArmPlan
from transfer.core.errors import SettingsError
from transfer.evaluation.report_schema import TimeBudget
from transfer.settings.project import Settings

NEEDED_ARMS = 2
"""Arms without which there is no decision: one from scratch and one that uses a source."""
SAFETY = 1.5
"""Factor on the expected time of what a decision needs: other programs share the machine,
and a training also reads its data and writes its result."""
GRACE = 0.05
"""Share of the budget by which a training without which there is no decision may be late."""


def begin(settings: Settings, promote: bool) -> TimeLimit:
    """The time limit of a run that begins now, or began with the command that started it.

    Raises:
        SettingsError: the budget is shorter than what comes after the trainings.
    """
    limit = TimeLimit(command_start.began(), settings.run.budget_seconds)
    measured = cost_history.overheads(promote)
    least = max((overhead.base for overhead in measured), default=cost_probe.UNKNOWN_OVERHEAD)
    if limit.left() <= least:
        raise SettingsError(
            f"run.budget is {duration(limit.seconds or 0)}, and to evaluate, register and judge "
            f"takes about {duration(least)} here; nothing was done: set a larger budget"
        )
    return limit


def deadline(limit: TimeLimit, overhead: Overhead, arms: int, *, needed: bool = False) -> float:
    """When the last of ``arms`` arms has to end, in seconds since the epoch.

    Args:
        limit: of the run.
        overhead: of what comes after the arms.
        arms: in all; what comes after them takes longer with each.
        needed: whether there is no decision without it; it may be a little late.
    """
    seconds = math.inf if limit.seconds is None else limit.seconds * (1 + GRACE * needed)
    return limit.began + seconds - overhead.seconds(arms)


@step("fit steps", tags=["train"])
def fit_steps(context: RunContext, alone: tuple[ArmPlan, ...], promote: bool) -> TrainingPlan:
    """Plan the trainings with as many steps as there is time for, the same share for all.

    Args:
        context: what all trainings of the run share; its settings have the requested steps.
        alone: the groups of arms that use no source.
        promote: whether the run ends with a decision about the registry.

    Raises:
        SettingsError: the budget is too short for any decision.
    """
    costs = cost_probe.measure(context, promote)
    left = deadline(context.time_limit, costs.overhead, NEEDED_ARMS) - time.time()
    log.info(
        "expected here: %s for a pretraining, %s for an arm from scratch, %s after the trainings",
        duration(costs.pretraining(context.settings)),
        duration(costs.arm(ArmPlan("scratch", (), "scratch"), context.settings)),
        duration(costs.overhead.seconds(NEEDED_ARMS)),
    )
    plans = [
        TrainingPlan(
            replace(context, settings=scaled(context.settings, share)), alone, share, costs
        )
        for share in SHARES
    ]
    needed = [_needed_seconds(plan, costs) for plan in plans]
    fits = (plan for plan, seconds in zip(plans, needed, strict=True) if SAFETY * seconds <= left)
    plan = next(fits, plans[-1])
    if plan is plans[-1] and needed[-1] > left:
        raise _refusal(context.time_limit, SAFETY * needed[-1], costs.overhead)
    if plan.share < 1.0:
        log.info("every training has %g of its steps: there is no time for more", plan.share)
    return plan


def scaled(settings: Settings, share: float) -> Settings:
    """The settings with a share of the steps of every training, of each at least one."""

    def cut(section: Any) -> Any:
        steps = max(1, round(share * section.training.steps))
        return section.model_copy(
            update={"training": section.training.model_copy(update={"steps": steps})}
        )

    return settings.model_copy(
        update={"pretrain": cut(settings.pretrain), "adapt": cut(settings.adapt)}
    )


def _needed_seconds(plan: TrainingPlan, costs: Costs) -> float:
    """Seconds of what every decision needs, as far as it is not stored: a pretraining with
    training from scratch beside it, then an arm that uses its result."""
    context, settings = plan.context, plan.settings
    seed, first = settings.adapt.seeds[0], likely(settings)
    source = pretrain.stored(next(iter(context.pretrainings)), context)
    before = [0.0 if source else costs.pretraining(settings)]
    for group in plan.alone:
        if is_baseline(group, settings) and not is_stored(ArmJob(group, seed), context):
            before.append(costs.arm(group, settings))
    jobs = [ArmJob(replace(first, sources=(s.name,)), seed, (s,)) for s in [source] if s]
    after = 0.0 if any(is_stored(job, context) for job in jobs) else costs.arm(first, settings)
    return (max(before) if context.arms_at_once > 1 else sum(before)) + after


def is_stored(job: ArmJob, context: RunContext) -> bool:
    """Whether an arm is stored and need not be trained."""
    return content_store.lookup(adapt.address(job, context)) is not None


def _refusal(limit: TimeLimit, needed: float, overhead: Overhead) -> SettingsError:
    spent, after = limit.spent(), overhead.seconds(NEEDED_ARMS)
    least = 10 * math.ceil((spent + needed + after) / 10)
    return SettingsError(
        f"run.budget is {duration(limit.seconds or 0)}, and a run takes at least about "
        f"{duration(least)} here: {duration(spent)} until something can be trained, "
        f"{duration(needed)} for one pretraining, one arm from scratch and one that uses a "
        f"source, at {SHARES[-1]:g} of their steps, and {duration(after)} to evaluate, register "
        "and judge; nothing was trained"
    )


def report(plan: TrainingPlan, trained: TrainedArms) -> TimeBudget | None:
    """What the report states about the budget; None in a run without a budget."""
    limit = plan.context.time_limit
    if limit.seconds is None:
        return None
    return TimeBudget(
        seconds=limit.seconds,
        spent=round(limit.spent(), 2),
        share=plan.share,
        left_out=dict(trained.left_out),
    )


def remember(trained: TrainedArms, watch: Stopwatch, settings: Settings, promote: bool) -> None:
    """Store how long this run took after its trainings, unless its evaluation was stored, or
    it waited for a person."""
    if "evaluate" in watch.reused() or (promote and settings.promote.approval):
        return
    after, reading = time.time() - trained.ended, watch.seconds()["evaluate"]
    cost_history.note(Overhead(after - reading, reading / len(trained.arms)), promote)
